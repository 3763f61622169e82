"""Everything the report knows about one case, as it was read from its artifacts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from payerseg.domain.landmarks import Landmarks
from payerseg.domain.vertebra import Vertebra
from payerseg.domain.volume import Volume
from payerseg.imaging.scan_record import ScanRecord
from payerseg.results.manifest import StageManifest

MOVED_MM = 0.05
"""A landmark further than this from where stage 2 put it was moved by a person (the table has 0.001)."""


class MeasuredValue(Protocol):
    """One measurement: level ("L1", "T4-T12"), quantity, value, unit, note."""

    level: str
    quantity: str
    value: float
    unit: str
    note: str


@dataclass(frozen=True, slots=True)
class CaseFacts:
    """One case.

    Attributes:
        case_id: its name.
        scan: what is remembered of the user's file.
        ct: (z, y, x) HU, the prepared CT.
        labels: (z, y, x) VerSe labels on the same grid.
        landmarks: as used by stage 3, maybe edited by a person.
        decision: stage 2's own account, the content of landmarks.json.
        mask_report: stage 3's account, the content of masks.json.
        measured: measurements.
        manifests: of the earlier stages, for times, versions and weights; none where not known.
    """

    case_id: str
    scan: ScanRecord
    ct: Volume
    labels: Volume
    landmarks: Landmarks
    decision: Mapping[str, Any] = field(default_factory=dict)
    mask_report: Any = None
    measured: Sequence[MeasuredValue] = ()
    manifests: tuple[StageManifest, ...] = ()

    def measured_of(self, level: str) -> dict[str, MeasuredValue]:
        """Return the measurements of one level by quantity."""
        return {row.quantity: row for row in self.measured if row.level == level}

    @property
    def doubts(self) -> tuple[str, ...]:
        """Why stage 2 wants a person to look; none once a person has changed what it decided."""
        return () if self.edits() else tuple(self.decision.get("reasons", ()))

    def edits(self) -> list[str]:
        """Say what a person changed in landmarks.csv, one phrase per vertebra, head to foot."""
        decided = self.decision.get("landmarks")
        if decided is None:
            return []
        phrases = []
        for vertebra in Vertebra:
            before, now = decided.get(vertebra.name), self.landmarks.get(vertebra)
            if before is None and now is not None:
                phrases.append(f"{vertebra.name} added")
            elif before is not None and now is None:
                phrases.append(f"{vertebra.name} removed")
            elif before is not None and now is not None:
                gap_mm = _distance(before["position_mm"], now.position_mm)
                phrases += [f"{vertebra.name} moved by {gap_mm:.1f} mm"] * (gap_mm > MOVED_MM)
        return phrases


def _distance(a: Sequence[float], b: Sequence[float]) -> float:
    return float(sum((p - q) ** 2 for p, q in zip(a, b, strict=True)) ** 0.5)
