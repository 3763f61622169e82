"""Where the time and the memory go, stage by stage, and how near the networks come to the machine's limit.

    python benchmarks/speed.py [SCAN...] [--synthetic 512x512x600] [--clock wall|cpu] [--json OUT.json]

Without a scan it draws one itself. Each scan is run once by `payerseg run` (wall time, memory of every
process), then every stage is replayed from the request that the run kept, in a process of its own with
clocks around network, reading and writing (`timed_stage.py`): once per precision, side by side. The peak
that the networks are measured against is measured before and after (`matrix_peak.py`). docs/performance.md
explains the columns.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import click

from payerseg.config.schema import DriverConfig
from payerseg.driver.child_env import child_environment
from payerseg.stagekit.catalog import PIPELINE

HERE = Path(__file__).parent
CPU_INFO, MEMORY_INFO = Path("/proc/cpuinfo"), Path("/proc/meminfo")
SYNTHETIC = "512x512x600"
PRECISIONS = ("mixed_bfloat16", "float32")
BUSY = 0.3
"""Runnable processes per core above which wall times mean little."""
OUTSIDE = ("read", "prepare", "finish", "write")
START = ("imports", "weights")

ClockName = Literal["wall", "cpu"]


@dataclass(frozen=True, slots=True)
class Replay:
    """One stage of one scan in one precision.

    Attributes:
        stage: its name.
        precision: "" for a stage without a network.
        seconds, cpu_seconds: by phase, see `timed_stage.PHASES`.
        peak_rss_mb: of the process.
        gflop: of all network passes.
        passes: their number.
    """

    stage: str
    precision: str
    seconds: dict[str, float]
    cpu_seconds: dict[str, float]
    peak_rss_mb: float
    gflop: float
    passes: int

    def time_of(self, phases: tuple[str, ...], clock: ClockName) -> float:
        """Return the seconds of some phases; CPU seconds of a network are shared by the cores."""
        if clock == "wall":
            return sum(self.seconds.get(phase, 0.0) for phase in phases)
        cores = os.cpu_count() or 1
        return sum(
            self.cpu_seconds.get(phase, 0.0) / (cores if phase == "network" else 1)
            for phase in phases
        )


@dataclass(frozen=True, slots=True)
class Report:
    """All figures of one scan: the real run, and the replays."""

    scan: str
    run_seconds: float
    processes: list[dict[str, Any]]
    replays: list[Replay]


def machine() -> dict[str, Any]:
    """Return what the figures depend on."""
    names = [line for line in _lines(CPU_INFO) if line.startswith("model name")]
    memory = [line.split()[1] for line in _lines(MEMORY_INFO) if line.startswith("MemTotal")]
    return {
        "processor": names[0].split(":", 1)[1].strip() if names else "unknown",
        "cores": os.cpu_count() or 1,
        "memory_gb": round(int(memory[0]) * 1024 / 1e9, 1) if memory else 0.0,
        "load_average": round(os.getloadavg()[0], 2),
        **{name: version(name) for name in ("tensorflow", "keras", "SimpleITK", "numpy")},
    }


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="ascii", errors="replace").splitlines() if path.exists() else []


def environment() -> dict[str, str]:
    """Return the environment the driver would give to a stage, with the benchmarks importable."""
    own = child_environment(DriverConfig(), os.environ)
    return own | {"PYTHONPATH": os.pathsep.join([str(HERE), own["PYTHONPATH"]])}


def measure_peaks(precisions: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """Return the machine's matrix peak per precision."""
    command = [sys.executable, str(HERE / "matrix_peak.py"), *precisions]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment())
    return dict(json.loads(done.stdout.splitlines()[-1]))


def faster(
    one: dict[str, dict[str, Any]], other: dict[str, dict[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Return the higher of two measurements of each peak: another program can only slow one down."""
    return {name: max(one[name], other[name], key=lambda p: p["per_second"]) for name in one}


def measure(scan: Path, precisions: tuple[str, ...], folder: Path) -> Report:
    """Run one scan for real, then replay its stages with clocks.

    Raises:
        click.ClickException: the pipeline fails or finds no spine to segment.
    """
    command = [sys.executable, "-m", "payerseg", "run", str(scan), "-o", str(folder), "--json"]
    started = time.monotonic()
    done = subprocess.run(
        command, check=False, stdout=subprocess.PIPE, text=True, env=environment()
    )
    seconds = time.monotonic() - started
    if done.returncode:
        msg = f"payerseg run ended with code {done.returncode} on {scan}"
        raise click.ClickException(msg)
    summary = json.loads(done.stdout)
    replays = []
    for precision in precisions:
        for spec in PIPELINE:
            if spec.weights or precision == precisions[0]:
                requests = list(folder.glob(f".payerseg/runs/*/*_{spec.name}/request-0.json"))
                if not requests:
                    msg = f"{spec.name} did not run on {scan}: {summary['counts']}"
                    raise click.ClickException(msg)
                replays.append(replay(spec.name, requests[0], precision if spec.weights else ""))
    return Report(scan.name, seconds, summary["processes"], replays)


def replay(stage: str, request: Path, precision: str) -> Replay:
    """Run one stage again, with clocks.

    Raises:
        click.ClickException: it fails.
    """
    data = json.loads(request.read_text(encoding="utf-8"))
    if precision:
        data["config"]["precision"] = precision
    copy, figures = request.with_name("timed.json"), request.with_name("figures.json")
    copy.write_text(json.dumps(data), encoding="utf-8")
    command = [sys.executable, str(HERE / "timed_stage.py"), stage, str(copy), str(figures)]
    done = subprocess.run(
        [*command, repr(time.time())], check=False, capture_output=True, text=True,
        env=environment(),
    )  # fmt: skip
    if done.returncode:
        msg = f"{stage} failed in its replay: {done.stderr[-2000:]}"
        raise click.ClickException(msg)
    found = json.loads(figures.read_text(encoding="utf-8"))
    return Replay(
        stage, precision, found["seconds"], found["cpu_seconds"], found["peak_rss_mb"],
        found["gflop"], found["passes"],
    )  # fmt: skip


COLUMNS = (
    "stage", "precision", "imports", "weights", "read", "prepare", "network", "finish", "write",
    "outside", "GFLOP", "of peak", "peak MB",
)  # fmt: skip


def table(report: Report, peaks: dict[str, dict[str, Any]], clock: ClockName) -> list[str]:
    """Return a Markdown table of one scan: a row per stage and precision, and sums."""
    lines = [f"| {' | '.join(COLUMNS)} |", f"|{'---|' * len(COLUMNS)}"]
    for r in report.replays:
        phases = [(phase,) for phase in (*START, "read", "prepare", "network", "finish", "write")]
        times = [f"{r.time_of(phase, clock):.2f}" for phase in (*phases, OUTSIDE)]
        cells = [r.stage, r.precision or "-", *times]
        cells += [f"{r.gflop:.0f}" if r.gflop else "-", _share(r, peaks, clock)]
        lines.append(f"| {' | '.join([*cells, f'{r.peak_rss_mb:.0f}'])} |")
    return lines


def _share(r: Replay, peaks: dict[str, dict[str, Any]], clock: ClockName) -> str:
    """Return the part of the matrix peak that the network's passes reach."""
    if not r.gflop:
        return "-"
    peak = peaks[r.precision]
    if clock == "cpu":
        return f"{r.gflop / r.cpu_seconds['network'] / peak['per_cpu_second']:.0%}"
    return f"{r.gflop / r.seconds['network'] / peak['per_second']:.0%}"


def totals(report: Report, precisions: tuple[str, ...], clock: ClockName) -> list[str]:
    """Return sums over the stages, per precision, and their ratio."""
    lines, networks = [], {}
    for precision in precisions:
        rows = [r for r in report.replays if r.precision in ("", precision)]
        networks[precision] = sum(r.time_of(("network",), clock) for r in rows)
        outside = sum(r.time_of(OUTSIDE, clock) for r in rows)
        start = sum(r.time_of(START, clock) for r in rows)
        lines.append(
            f"{precision}: {networks[precision]:.1f} s in networks, {outside:.1f} s outside them, "
            f"{start:.1f} s process starts; highest peak {max(r.peak_rss_mb for r in rows):.0f} MB"
        )
    if len(precisions) > 1:
        slow, fast = networks["float32"], networks["mixed_bfloat16"]
        lines.append(f"float32 / mixed_bfloat16 in the networks: {slow / fast:.2f}")
    return lines


def run_lines(report: Report) -> list[str]:
    """Return what `payerseg run` itself took."""
    cpu = sum(process["cpu_seconds"] for process in report.processes)
    peak = max(process["peak_rss_mb"] for process in report.processes)
    took = f"payerseg run: {report.run_seconds:.1f} s wall, {cpu:.1f} CPU s"
    return [f"{took}, all process starts included; highest peak of a process {peak:.0f} MB"]


def parse_size(_context: click.Context, _option: click.Parameter, value: str) -> tuple[int, ...]:
    """Read XxYxZ."""
    parts = value.lower().split("x")
    if len(parts) != 3 or not all(part.isdigit() and int(part) >= 64 for part in parts):
        msg = f"{value!r} is no size; expected like {SYNTHETIC}, each at least 64"
        raise click.BadParameter(msg)
    return tuple(int(part) for part in parts)


@click.command()
@click.argument("scans", nargs=-1, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--synthetic", default=SYNTHETIC, show_default=True, callback=parse_size)
@click.option("--clock", type=click.Choice(["wall", "cpu"]), default="wall", show_default=True)
@click.option("--precision", "precisions", multiple=True, type=click.Choice(PRECISIONS))
@click.option("--json", "record", type=click.Path(dir_okay=False, path_type=Path))
def main(
    scans: tuple[Path, ...],
    synthetic: tuple[int, int, int],
    clock: ClockName,
    precisions: tuple[str, ...],
    record: Path | None,
) -> None:
    """Measure the pipeline on scans, or on one drawn for it."""
    precisions = precisions or PRECISIONS
    found = machine()
    click.echo(", ".join(f"{key} {value}" for key, value in found.items()))
    if found["load_average"] > BUSY * found["cores"] and clock == "wall":
        click.echo("the machine is busy: wall times are too long; --clock cpu is fairer")
    peaks = measure_peaks(precisions)
    reports = []
    with tempfile.TemporaryDirectory(prefix="payerseg-speed-") as place:
        if not scans:
            from speed_scan import write_synthetic_scan

            name = "x".join(str(n) for n in synthetic)
            scans = (Path(place) / f"synthetic-{name}.nii.gz",)
            count = write_synthetic_scan(scans[0], synthetic)
            click.echo(f"drew {scans[0].name} with {count} whole vertebrae")
        for number, scan in enumerate(scans):
            report = measure(scan, precisions, Path(place) / f"out{number}")
            reports.append(report)
            peaks = faster(peaks, measure_peaks(precisions))
            click.echo(f"\n{report.scan} ({clock} seconds)\n")
            click.echo("\n".join(table(report, peaks, clock)) + "\n")
            for precision, peak in peaks.items():
                click.echo(
                    f"matrix peak {precision}: {peak['per_second']:.0f} GFLOP/s ({peak['of']})"
                )
            click.echo("\n".join([*totals(report, precisions, clock), *run_lines(report)]))
    if record:
        data = {"machine": found, "peaks": peaks, "reports": [asdict(r) for r in reports]}
        record.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
