"""Where the time and the memory go, stage by stage, and how near the networks come to the machine's limit.

    python benchmarks/speed.py [SCAN...] [--synthetic 512x512x600] [--clock wall|cpu] [--json OUT.json]

Without a scan it draws one itself. Each scan is run once by `payerseg run` (wall time, memory of every
process), then every stage is replayed from the request that the run kept, in a process of its own with
clocks around network, reading and writing (`timed_stage.py`): once per precision, side by side. The peak
that the networks are measured against is measured before and after. docs/performance.md explains the columns.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import numpy as np

from payerseg.config.schema import DriverConfig
from payerseg.domain.grid import Grid
from payerseg.domain.vertebra import Vertebra
from payerseg.driver.supervisor import child_environment
from payerseg.imaging.nifti import write_nifti
from payerseg.imaging.resample import resample
from payerseg.stagekit.catalog import PIPELINE
from payerseg.synthesis.phantom import PHANTOM_EXTENT, make_phantom

TIMED_STAGE = Path(__file__).with_name("timed_stage.py")
CPU_INFO, MEMORY_INFO = Path("/proc/cpuinfo"), Path("/proc/meminfo")
PRECISIONS = ("mixed_bfloat16", "float32")
BUSY = 0.3
"""Runnable processes per core above which wall times mean little."""
START, OUTSIDE = ("imports", "weights"), ("read", "prepare", "finish", "write")
PHASES = (*START, "read", "prepare", "network", "finish", "write")
SYNTHETIC = "512x512x600"
SEED, NOISE_HU, AIR_HU, SLAB_SLICES = 7, 12.0, -1024.0, 25
FIELD_MM = (400.0, 400.0, 600.0)
TRUNK = replace(PHANTOM_EXTENT, first=Vertebra.C4, side_mm=185.0, front_mm=170.0, back_mm=110.0)

Figures = dict[str, Any]
"""Of one stage in one precision, as `timed_stage.py` writes them, and its precision ("" = no network)."""


def write_synthetic_scan(path: Path, size_xyz: tuple[int, int, int]) -> int:
    """Write a synthetic CT of 400 x 400 x 600 mm and return how many vertebrae it holds whole.

    A trunk is drawn at 2 mm, brought to the wanted number of voxels and given a scanner's noise, so that it
    compresses about as badly as a real CT. It is the same everywhere.
    """
    trunk = make_phantom(SEED, extent=TRUNK)
    size = np.asarray(size_xyz)
    spacing = np.array(FIELD_MM) / size
    origin = trunk.ct.grid.corners_mm().mean(axis=0) - (size - 1) / 2 * spacing
    grid = Grid(tuple(size[::-1].tolist()), tuple(spacing.tolist()), tuple(origin.tolist()))
    rng = np.random.default_rng(SEED)
    voxels = np.empty(grid.shape, np.int16)
    for start in range(0, grid.shape[0], SLAB_SLICES):
        shape = (min(SLAB_SLICES, grid.shape[0] - start), *grid.shape[1:])
        hu = resample(trunk.ct, grid.window((start, 0, 0), shape), outside=AIR_HU).array
        hu += NOISE_HU * rng.standard_normal(hu.shape, np.float32)
        voxels[start : start + len(hu)] = np.rint(np.clip(hu, AIR_HU, 3071))
    write_nifti(path, voxels, grid)
    return int(np.count_nonzero(grid.contains(trunk.landmarks.positions_mm))) - len(trunk.cut)


def machine() -> dict[str, Any]:
    """Return what the figures depend on."""

    def found(path: Path, word: str) -> str:
        text = path.read_text(encoding="ascii", errors="replace") if path.exists() else ""
        lines = [line for line in text.splitlines() if line.startswith(word)]
        return lines[0].partition(":")[2].strip() if lines else ""

    memory_kb = int((found(MEMORY_INFO, "MemTotal") or "0").split()[0])
    return {
        "processor": found(CPU_INFO, "model name") or "unknown",
        "cores": os.cpu_count() or 1,
        "memory_gb": round(memory_kb * 1024 / 1e9, 1),
        "load_average": round(os.getloadavg()[0], 2),
        **{name: version(name) for name in ("tensorflow", "keras", "SimpleITK", "numpy")},
    }


def in_stage_environment(command: list[str]) -> str:
    """Run a program as the driver would and return its output.

    Raises:
        click.ClickException: it fails.
    """
    own = child_environment(DriverConfig(), os.environ)
    done = subprocess.run(
        [sys.executable, *command], check=False, capture_output=True, text=True, env=own
    )
    if done.returncode:
        what = " ".join(command[:3])
        msg = f"{what} ended with code {done.returncode}: {done.stderr[-2000:]}"
        raise click.ClickException(msg)
    return done.stdout


def measure_peaks(precisions: tuple[str, ...]) -> dict[str, Figures]:
    """Return the machine's matrix peak per precision."""
    said = in_stage_environment([str(TIMED_STAGE), "peak", *precisions])
    return dict(json.loads(said.splitlines()[-1]))


def measure(scan: Path, precisions: tuple[str, ...], folder: Path) -> dict[str, Any]:
    """Run one scan for real, then replay its stages with clocks.

    Raises:
        click.ClickException: the pipeline fails or finds no spine to segment.
    """
    command = ["-m", "payerseg", "run", str(scan), "-o", str(folder), "--json"]
    started = time.monotonic()
    summary = json.loads(in_stage_environment(command))
    seconds, replays = time.monotonic() - started, []
    for precision in precisions:
        for spec in PIPELINE:
            if spec.weights or precision == precisions[0]:
                requests = list(folder.glob(f".payerseg/runs/*/*_{spec.name}/request-0.json"))
                if not requests:
                    msg = f"{spec.name} did not run on {scan}: {summary['counts']}"
                    raise click.ClickException(msg)
                replays.append(replay(spec.name, requests[0], precision if spec.weights else ""))
    processes = summary["processes"]
    return {"scan": scan.name, "run_seconds": seconds, "processes": processes, "replays": replays}


def replay(stage: str, request: Path, precision: str) -> Figures:
    """Run one stage again, with clocks."""
    data = json.loads(request.read_text(encoding="utf-8"))
    if precision:
        data["config"]["precision"] = precision
    copy, figures = request.with_name("timed.json"), request.with_name("figures.json")
    copy.write_text(json.dumps(data), encoding="utf-8")
    in_stage_environment([str(TIMED_STAGE), stage, str(copy), str(figures), repr(time.time())])
    return json.loads(figures.read_text(encoding="utf-8")) | {"precision": precision}


def time_of(found: Figures, phases: tuple[str, ...], clock: str) -> float:
    """Return the seconds of some phases; CPU seconds of a network are shared by the cores."""
    seconds = found["seconds" if clock == "wall" else "cpu_seconds"]
    shared = {"network": os.cpu_count() or 1} if clock == "cpu" else {}
    return sum(seconds.get(phase, 0.0) / shared.get(phase, 1) for phase in phases)


def share_of_peak(found: Figures, peaks: dict[str, Figures], clock: str) -> str:
    """Return the part of the matrix peak that the network's passes reach."""
    if not found["gflop"]:
        return "-"
    seconds = found["seconds" if clock == "wall" else "cpu_seconds"]["network"]
    peak = peaks[found["precision"]]["per_second" if clock == "wall" else "per_cpu_second"]
    return f"{found['gflop'] / seconds / peak:.0%}"


def lines(report: dict[str, Any], peaks: dict[str, Figures], clock: str) -> list[str]:
    """Return a Markdown table of one scan, a row per stage and precision, and sums."""
    columns = ["stage", "precision", *PHASES, "outside", "GFLOP", "of peak", "peak MB"]
    rows = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    for found in report["replays"]:
        times = [f"{time_of(found, p, clock):.2f}" for p in [*((p,) for p in PHASES), OUTSIDE]]
        gflop = f"{found['gflop']:.0f}" if found["gflop"] else "-"
        cells = [found["stage"], found["precision"] or "-", *times, gflop]
        cells += [share_of_peak(found, peaks, clock), f"{found['peak_rss_mb']:.0f}"]
        rows.append(f"| {' | '.join(cells)} |")
    rows.append("")
    for name, peak in peaks.items():
        rows.append(f"matrix peak {name}: {peak['per_second']:.0f} GFLOP/s ({peak['of']})")
    networks = {}
    for name in peaks:
        used = [found for found in report["replays"] if found["precision"] in ("", name)]
        network, outside, start = (
            sum(time_of(found, phases, clock) for found in used)
            for phases in (("network",), OUTSIDE, START)
        )
        networks[name] = network
        rows.append(
            f"{name}: {network:.1f} s in networks, {outside:.1f} s outside them, {start:.1f} s "
            f"process starts; highest peak {max(found['peak_rss_mb'] for found in used):.0f} MB"
        )
    if len(networks) > 1:
        ratio = networks["float32"] / networks["mixed_bfloat16"]
        rows.append(f"float32 / mixed_bfloat16 in the networks: {ratio:.2f}")
    cpu = sum(process["cpu_seconds"] for process in report["processes"])
    peak = max(process["peak_rss_mb"] for process in report["processes"])
    took = f"payerseg run: {report['run_seconds']:.1f} s wall, {cpu:.1f} CPU s"
    return [*rows, f"{took}, all process starts included; highest peak of a process {peak:.0f} MB"]


def parse_size(_context: click.Context, _option: click.Parameter, value: str) -> tuple[int, ...]:
    """Read XxYxZ."""
    parts = value.lower().split("x")
    if len(parts) != 3 or not all(part.isdigit() and int(part) >= 64 for part in parts):
        msg = f"{value!r} is no size; expected like {SYNTHETIC}, each at least 64"
        raise click.BadParameter(msg)
    return tuple(int(part) for part in parts)


@click.command(help=__doc__)
@click.argument("scans", nargs=-1, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--synthetic", default=SYNTHETIC, show_default=True, callback=parse_size)
@click.option("--clock", type=click.Choice(["wall", "cpu"]), default="wall", show_default=True)
@click.option("--precision", "precisions", multiple=True, type=click.Choice(PRECISIONS))
@click.option("--json", "record", type=click.Path(dir_okay=False, path_type=Path))
def main(
    scans: tuple[Path, ...],
    synthetic: tuple[int, int, int],
    clock: str,
    precisions: tuple[str, ...],
    record: Path | None,
) -> None:
    """Measure the pipeline on scans, or on one drawn for it."""
    found, reports = machine(), []
    click.echo(", ".join(f"{key} {value}" for key, value in found.items()))
    if found["load_average"] > BUSY * found["cores"] and clock == "wall":
        click.echo("the machine is busy: wall times are too long; --clock cpu is fairer")
    peaks = measure_peaks(precisions or PRECISIONS)
    with tempfile.TemporaryDirectory(prefix="payerseg-speed-") as place:
        if not scans:
            scans = (Path(place) / f"synthetic-{'x'.join(str(n) for n in synthetic)}.nii.gz",)
            count = write_synthetic_scan(scans[0], synthetic)
            click.echo(f"drew {scans[0].name} with {count} whole vertebrae")
        for number, scan in enumerate(scans):
            report = measure(scan, tuple(peaks), Path(place) / f"out{number}")
            reports.append(report)
            # the higher of both counts: another program can only slow one down
            for name, again in measure_peaks(tuple(peaks)).items():
                peaks[name] = max(peaks[name], again, key=lambda peak: peak["per_second"])
            click.echo(f"\n{report['scan']} ({clock} seconds)\n")
            click.echo("\n".join(lines(report, peaks, clock)))
    if record:
        data = {"machine": found, "peaks": peaks, "reports": reports}
        record.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
