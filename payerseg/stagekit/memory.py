"""How much memory this process uses."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

BYTES_PER_MB = 1_000_000
PROC_STATUS = Path("/proc/self/status")


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident memory, MB (10^6 bytes)."""

    now: float
    peak: float


def memory_mb() -> Memory:
    """Return the resident memory of this process, now and at its highest; zeros where unknown.

    Linux is asked through /proc, as `getrusage` reports a peak inherited from the parent.
    """
    if PROC_STATUS.exists():
        lines = PROC_STATUS.read_text(encoding="ascii", errors="replace").splitlines()
        values = dict(line.split(":", 1) for line in lines if ":" in line)
        return Memory(_as_mb(values.get("VmRSS", "0 kB")), _as_mb(values.get("VmHWM", "0 kB")))
    try:
        import resource
    except ImportError:  # Windows
        return Memory(0.0, 0.0)
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / BYTES_PER_MB
    return Memory(0.0, round(peak, 1))


def _as_mb(kibibytes: str) -> float:
    """Turn " 1234 kB", as Linux spells kibibytes, into MB."""
    return round(int(kibibytes.split(maxsplit=1)[0]) * 1024 / BYTES_PER_MB, 1)
