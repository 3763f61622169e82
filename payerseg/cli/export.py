"""`payerseg export`: results in the formats of other tools."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from payerseg.errors import UsageError
from payerseg.stagekit.protocol import ExitCode

if TYPE_CHECKING:
    from payerseg.exports.case_result import CaseResult

FORMATS = {
    "flat": "label maps and landmark tables side by side",
    "verse": "VerSe names, centroids with direction and voxel coordinates",
    "slicer": "3D Slicer: label maps, .mrk.json markups, colour table",
    "itksnap": "ITK-SNAP: label maps and label description file",
    "bids": "BIDS derivatives data set",
    "dicom-seg": "DICOM Segmentation, coded per vertebra (needs payerseg[dicom])",
    "mesh": "STL, PLY and GLB surfaces (needs payerseg[mesh])",
}
ALL = "all"

stale_option = click.option(
    "--stale",
    default="refuse",
    show_default=True,
    type=click.Choice(["refuse", "ok"]),
    help="What to do with results that failed since or belong to something that has changed; ok "
    "takes them and says so.",
)


@click.command()
@click.argument("results", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--to",
    "formats",
    multiple=True,
    required=True,
    type=click.Choice([*FORMATS, ALL]),
    help=f"Format, or {ALL}; repeatable. "
    + "; ".join(f"{name}: {text}" for name, text in FORMATS.items()),
)
@click.option(
    "-o",
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder to write to, one subfolder per format. [default: RESULTS_export beside RESULTS]",
)
@click.option(
    "--source",
    type=click.Path(exists=True, path_type=Path),
    help="dicom-seg only: folder or zip with the DICOM series that were segmented. "
    "[default: where the run read them]",
)
@stale_option
@click.option("--only-case", multiple=True, metavar="ID", help="Only this case; repeatable.")
def export(
    *,
    results: Path,
    formats: tuple[str, ...],
    output: Path | None,
    source: Path | None,
    stale: str,
    only_case: tuple[str, ...],
) -> int:
    """Write the cases of RESULTS, an output folder of `payerseg run`, for other tools.

    Exports are derived: delete and write them again at will. Cases without vertebrae are left out
    and named. A case is refused whose last run failed, or whose masks belong to something that has
    changed since: the scan, the landmarks, the masks themselves; run it again first.

    Exit code 3 if a case was refused or cannot be written; the others are.
    """
    exported = Export(results, output, source, stale_ok=stale == "ok", only_case=only_case)
    return write_formats(exported, formats, tell=click.echo)


@dataclass(frozen=True, slots=True)
class Export:
    """What is exported where.

    Attributes:
        results: output folder of `payerseg run`.
        output: folder to write to; None: RESULTS_export beside it.
        source: DICOM series for dicom-seg; None: where the run read them.
        stale_ok: write also what failed since or is stale, and say so.
        only_case: case ids; none = all.
    """

    results: Path
    output: Path | None = None
    source: Path | None = None
    stale_ok: bool = False
    only_case: tuple[str, ...] = ()


def write_formats(export: Export, formats: Sequence[str], tell: Callable[[str], None]) -> int:
    """Write formats as the command does; `tell` gets one line for each.

    Returns:
        0, or 3 where a case was refused or could not be written.

    Raises:
        UsageError: a case that is not there, or a format that cannot be written from these results.
    """
    from payerseg.exports.case_result import find_results

    found = find_results(export.results, stale_ok=export.stale_ok)
    wanted = set(export.only_case)
    unknown = wanted - {case.case_id for case in found.cases} - {*found.without, *found.refused}
    if unknown:
        msg = f"no case {', '.join(sorted(unknown))} in {export.results}"
        raise UsageError(msg)
    chosen = [case for case in found.cases if not wanted or case.case_id in wanted]
    for word, reasons in (
        ("left out", found.without),
        ("refused", found.refused),
        ("exported though", {case.case_id: case.stale for case in chosen if case.stale}),
    ):
        for case_id in [case_id for case_id in reasons if not wanted or case_id in wanted]:
            click.echo(f"{word} {case_id}: {reasons[case_id]}", err=True)
    failed = {case_id for case_id in found.refused if not wanted or case_id in wanted}
    if not chosen:
        tell("no case to export")
    root = export.output or export.results.with_name(f"{export.results.resolve().name}_export")
    for name in FORMATS if ALL in formats else dict.fromkeys(formats):
        cases = chosen
        if name == "dicom-seg" and export.source is None:
            cases = _from_dicom(chosen, others_allowed=ALL in formats)
        if not cases:
            continue
        before = len(failed)

        def tell_failed(case_id: str, error: Exception, name: str = name) -> None:
            failed.add(f"{case_id} {name}")
            click.echo(f"failed {case_id} ({name}): {error}", err=True)

        written = _writer(name, export.source)(cases, root / name, tell_failed)
        done = len(cases) - (len(failed) - before)
        tell(f"{name}: {done} cases, {len(written)} files in {root / name}")
    return ExitCode.SOME_FAILED if failed else ExitCode.OK


def _from_dicom(cases: list[CaseResult], *, others_allowed: bool) -> list[CaseResult]:
    """Return the cases that came from DICOM and name the others.

    Raises:
        UsageError: there are only others, and they are not allowed.
    """
    own = [case for case in cases if case.dicom_origin() is not None]
    if cases and not own and not others_allowed:
        msg = (
            f"{cases[0].case_id} did not come from DICOM; give --source, the folder or zip of the series "
            "that was segmented"
        )
        raise UsageError(msg)
    for case in cases:
        if case not in own:
            reason = "it did not come from DICOM; give --source for its series"
            click.echo(f"dicom-seg leaves out {case.case_id}: {reason}", err=True)
    return own


def _writer(name: str, source: Path | None) -> Callable[..., list[Path]]:
    """Import and return the function that writes one format."""
    if name == "bids":
        from payerseg.exports.bids import export_bids

        return export_bids
    if name == "mesh":
        from payerseg.exports.meshes import export_meshes

        return export_meshes
    if name == "dicom-seg":
        from payerseg.exports.dicom_seg import export_dicom_seg

        return lambda cases, folder, tell_failed: export_dicom_seg(
            cases, folder, source, tell_failed
        )
    from payerseg.exports import folders

    writers = {
        "flat": folders.export_flat,
        "verse": folders.export_verse,
        "slicer": folders.export_slicer,
        "itksnap": folders.export_itksnap,
    }
    return writers[name]
