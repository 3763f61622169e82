"""`payerseg dicom`: what a folder or zip holds, and series as volumes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from payerseg.dicom.source import require_pydicom
from payerseg.driver.dicom_inputs import name_series, split_inputs
from payerseg.errors import PayersegError, UsageError
from payerseg.stagekit.protocol import ExitCode

if TYPE_CHECKING:
    from payerseg.dicom.inventory import Inventory
    from payerseg.dicom.selection import Decision
    from payerseg.imaging.raw_scan import RawScan

MARKS = {"chosen": "*", "refused": "!", "left": " "}
SERIES_HELP = "best (one per study), all, or which: number, UID or part of the description."
UNEVEN_HELP = "Missing or uneven slices: refuse, or interpolate gaps of up to 10 mm."

Command = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class _Listed:
    """One series of one folder or zip, what happens with it, and its case's name if it is wanted."""

    inventory: Inventory
    decision: Decision
    name: str | None


@dataclass(frozen=True, slots=True)
class _Listing:
    """Everything below a path; remarks are about the path, not about an inventory."""

    inventories: list[Inventory]
    items: list[_Listed]
    remarks: list[str]


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
    listing = _look_through(path, series, fill_gaps=uneven_slices == "interpolate")
    remarks = [remark for inventory in listing.inventories for remark in inventory.remarks]
    remarks += listing.remarks
    if as_json:
        facts = [_facts(item) for item in listing.items]
        click.echo(json.dumps({"series": facts, "remarks": remarks}, indent=1))
        return
    for item in listing.items:
        click.echo(_line(item.decision))
        case = f"case {item.name}: " if item.name else ""
        click.echo(f"      {case}{item.decision.reason}")
        for note in (*item.decision.volume.notes, *item.decision.notes):
            click.echo(f"      {note.message}")
    for remark in remarks:
        click.echo(remark)
    if not listing.items:
        click.echo("no image in DICOM found")


@dicom.command()
@choice_options
@click.argument("out", metavar="OUT", type=click.Path(file_okay=False, path_type=Path))
def convert(*, path: Path, series: str, uneven_slices: str, out: Path) -> int:
    """Write each chosen series below PATH as one scan, OUT/<case>.nii.gz, in Hounsfield units.

    Voxels are those of the files, in the files' order along the normal; slices of a tilted gantry are
    moved within their planes onto a rectangular grid, which every viewer can open. Of the headers nothing
    but the geometry is written. Exit code 3 if a wanted series is unusable.
    """
    from payerseg.dicom.selection import Choice

    fill_gaps = uneven_slices == "interpolate"
    listing = _look_through(path, series, fill_gaps=fill_gaps)
    wanted = [item for item in listing.items if item.name]
    if not wanted:
        reasons = [f"series {i.decision.volume.number}: {i.decision.reason}" for i in listing.items]
        why = "; ".join(reasons) or "nothing in it is an image in DICOM"
        msg = f"no series to convert in {path}: {why}"
        raise UsageError(msg)
    n_failed = 0
    for item in wanted:
        target = out / f"{item.name}.nii.gz"
        if item.decision.choice is Choice.REFUSED:
            message = f"series {item.decision.volume.number}: {item.decision.reason}"
        else:
            message = _convert(item, target, fill_gaps=fill_gaps)
        if message:
            click.echo(f"failed {target.name}: {message}", err=True)
            n_failed += 1
    return ExitCode.SOME_FAILED if n_failed else ExitCode.OK


def _convert(item: _Listed, target: Path, *, fill_gaps: bool) -> str:
    """Write one series; return why not, "" if it was written."""
    from payerseg.dicom.series import read_series
    from payerseg.imaging.files import write_volume

    try:
        raw = read_series(item.inventory.reference(item.decision), fill_gaps=fill_gaps)
    except PayersegError as error:
        return str(error)
    target.parent.mkdir(parents=True, exist_ok=True)
    write_volume(_as_volume(raw), target)
    click.echo(f"{target}: series {item.decision.volume.number}, {item.decision.reason}")
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


def _look_through(path: Path, series: str, *, fill_gaps: bool) -> _Listing:
    """Look through what 'payerseg run' would, zips in a folder too, and name what is wanted as it does."""
    require_pydicom()
    from payerseg.dicom.inventory import take_inventory
    from payerseg.dicom.selection import Choice

    _, sources, remarks = split_inputs([path])
    inventories = [take_inventory(source) for source in sources or [path]]
    decided = [
        (inventory, inventory.decide(series, fill_gaps=fill_gaps)) for inventory in inventories
    ]
    wanted = {
        inventory.source: [d.volume for d in decisions if d.choice is not Choice.LEFT]
        for inventory, decisions in decided
    }
    names = name_series(
        {source: [(v.members, v.number) for v in volumes] for source, volumes in wanted.items()}
    )
    items = []
    for inventory, decisions in decided:
        left = iter(names[inventory.source])
        for decision in decisions:
            name = None if decision.choice is Choice.LEFT else next(left)
            items.append(_Listed(inventory, decision, name))
    return _Listing(inventories, items, remarks)


def _line(decision: Decision) -> str:
    volume, first = decision.volume, decision.volume.first
    spacing = "x".join(f"{value:.3g}" for value in reversed(first.spacing_mm or (0.0, 0.0)))
    size = f"{first.columns} x {first.rows} x {len(volume.frames)}"
    return (
        f"{MARKS[decision.choice]} {volume.number:>6}  {first.modality or '?':<3} {size:<18} "
        f"{spacing}x{volume.distance_mm:.3g} mm  {first.description}"
    ).rstrip()


def _facts(item: _Listed) -> dict[str, Any]:
    decision, volume, first = item.decision, item.decision.volume, item.decision.volume.first
    return {
        "source": str(item.inventory.source),
        "choice": decision.choice.value,
        "reason": decision.reason,
        "case": item.name,
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
        "notes": [note.message for note in (*volume.notes, *decision.notes)],
        "n_files": len(volume.members),
    }
