"""`payerseg dicom`: what a folder or zip holds, and series as volumes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from payerseg.dicom.names import series_names, source_name
from payerseg.dicom.signature import DIRECTORY_FILE, require_pydicom
from payerseg.errors import PayersegError, UsageError

if TYPE_CHECKING:
    from payerseg.dicom.inventory import Inventory
    from payerseg.dicom.selection import Decision
    from payerseg.imaging.raw_scan import RawScan

EXIT_SOME_FAILED = 3
MARKS = {"chosen": "*", "refused": "!", "left": " "}
SERIES_HELP = "best (one per study), all, or which: number, UID or part of the description."
UNEVEN_HELP = "Missing or uneven slices: refuse, or interpolate gaps of up to 10 mm."

Command = Callable[..., Any]


@click.group()
def dicom() -> None:
    """List and convert DICOM series."""


def choice_options(command: Command) -> Command:
    """Add PATH, --series and --uneven-slices."""
    uneven = click.Choice(["refuse", "interpolate"])
    command = click.option(
        "--uneven-slices", type=uneven, default="refuse", show_default=True, help=UNEVEN_HELP
    )(command)
    command = click.option(
        "--series",
        default="best",
        show_default=True,
        metavar="best|all|WHICH",
        help=f"Which series: {SERIES_HELP}",
    )(command)
    return click.argument(
        "path", metavar="PATH", type=click.Path(exists=True, path_type=Path, resolve_path=True)
    )(command)


@dicom.command("list")
@choice_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON; UIDs included.")
def list_series(*, path: Path, series: str, uneven_slices: str, as_json: bool) -> None:
    """List every series below PATH (folder, zip or file), and which 'payerseg run' would take and why.

    Marks: * would be segmented, ! is wanted but unusable (a failed case), others are left aside. No
    patient data is read or shown; descriptions of series are shown as they are.
    """
    inventory = _inventory(path)
    decisions = inventory.decide(series, fill_gaps=uneven_slices == "interpolate")
    names = _names(inventory, decisions)
    if as_json:
        facts = [_facts(decision, names.get(id(decision))) for decision in decisions]
        click.echo(json.dumps({"series": facts, "remarks": inventory.remarks}, indent=1))
        return
    for decision in decisions:
        click.echo(_line(decision))
        name = names.get(id(decision))
        click.echo(f"      {f'case {name}: ' if name else ''}{decision.reason}")
    for remark in inventory.remarks:
        click.echo(remark)
    if not decisions:
        click.echo("no image in DICOM found")


@dicom.command()
@choice_options
@click.argument("out", metavar="OUT", type=click.Path(file_okay=False, path_type=Path))
def convert(*, path: Path, series: str, uneven_slices: str, out: Path) -> int:
    """Write each chosen series below PATH as one scan, OUT/<case>.nii.gz, in Hounsfield units.

    Voxels are those of the files, in the files' order along the normal; a tilted gantry gives a sheared
    grid. Of the headers nothing but the geometry is written. Exit code 3 if a wanted series is unusable.
    """
    from payerseg.dicom.selection import Choice

    inventory = _inventory(path)
    fill_gaps = uneven_slices == "interpolate"
    decisions = inventory.decide(series, fill_gaps=fill_gaps)
    names = _names(inventory, decisions)
    wanted = [decision for decision in decisions if decision.choice is not Choice.LEFT]
    if not wanted:
        reasons = "; ".join(f"series {d.volume.number}: {d.reason}" for d in decisions)
        msg = f"no series to convert in {path}: {reasons or 'nothing in it is an image in DICOM'}"
        raise UsageError(msg)
    n_failed = 0
    for decision in wanted:
        target = out / f"{names[id(decision)]}.nii.gz"
        if decision.choice is Choice.REFUSED:
            message = f"series {decision.volume.number}: {decision.reason}"
        else:
            message = _convert(inventory, decision, target, fill_gaps=fill_gaps)
        if message:
            click.echo(f"failed {target.name}: {message}", err=True)
            n_failed += 1
    return EXIT_SOME_FAILED if n_failed else 0


def _convert(inventory: Inventory, decision: Decision, target: Path, *, fill_gaps: bool) -> str:
    """Write one series; return why not, "" if it was written."""
    from payerseg.dicom.series import read_series
    from payerseg.imaging.files import write_volume

    try:
        raw = read_series(inventory.reference(decision), fill_gaps=fill_gaps)
    except PayersegError as error:
        return str(error)
    target.parent.mkdir(parents=True, exist_ok=True)
    write_volume(_as_volume(raw), target)
    click.echo(f"{target}: series {decision.volume.number}, {decision.reason}")
    for note in raw.notes:
        if note.code != "dicom_choice":
            click.echo(f"      {note.message}")
    return ""


def _as_volume(raw: RawScan) -> Any:
    """Return Hounsfield units, as whole numbers where they are."""
    import numpy as np

    from payerseg.domain.volume import Volume

    values = raw.values()
    if values.dtype.kind == "f":
        limits = np.iinfo(np.int16)
        whole = bool(np.all(values == np.rint(values)))
        fits = values.min() >= limits.min and values.max() <= limits.max
        values = values.astype(np.int16 if whole and fits else np.float32)
    return Volume(values, raw.grid)


def _inventory(path: Path) -> Inventory:
    require_pydicom()
    from payerseg.dicom.inventory import take_inventory

    return take_inventory(path.parent if path.name.upper() == DIRECTORY_FILE else path)


def _names(inventory: Inventory, decisions: list[Decision]) -> dict[int, str]:
    """Name what is wanted, as 'payerseg run' does."""
    from payerseg.dicom.selection import Choice

    wanted = [decision for decision in decisions if decision.choice is not Choice.LEFT]
    series = [(decision.volume.members, decision.volume.number) for decision in wanted]
    names = series_names(inventory.source, series) if series else [source_name(inventory.source)]
    return {id(decision): name for decision, name in zip(wanted, names, strict=False)}


def _line(decision: Decision) -> str:
    volume, first = decision.volume, decision.volume.first
    spacing = "x".join(f"{value:.3g}" for value in reversed(first.spacing_mm or (0.0, 0.0)))
    size = f"{first.columns} x {first.rows} x {len(volume.frames)}"
    return (
        f"{MARKS[decision.choice]} {volume.number:>6}  {first.modality or '?':<3} {size:<18} "
        f"{spacing}x{volume.distance_mm:.3g} mm  {first.description}"
    ).rstrip()


def _facts(decision: Decision, name: str | None) -> dict[str, Any]:
    volume, first = decision.volume, decision.volume.first
    return {
        "choice": decision.choice.value,
        "reason": decision.reason,
        "case": name,
        "number": volume.number,
        "description": first.description,
        "modality": first.modality,
        "study_uid": first.study,
        "series_uid": first.series,
        "image_type": list(first.image_type),
        "slices": len(volume.frames),
        "rows": first.rows,
        "columns": first.columns,
        "pixel_spacing_yx_mm": first.spacing_mm,
        "slice_distance_mm": round(volume.distance_mm, 4),
        "transfer_syntax": first.pixels.transfer_syntax,
        "problem": volume.problem.kind if volume.problem else None,
        "notes": [note.message for note in volume.notes],
        "n_files": len(volume.members),
    }
