"""`payerseg export`: results in the formats of other tools."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from payerseg.errors import PayersegError, UsageError

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
EXIT_SOME_FAILED = 3


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
@click.option("--only-case", multiple=True, metavar="ID", help="Only this case; repeatable.")
def export(
    *,
    results: Path,
    formats: tuple[str, ...],
    output: Path | None,
    source: Path | None,
    only_case: tuple[str, ...],
) -> int:
    """Write the cases of RESULTS, an output folder of `payerseg run`, for other tools.

    Exports are derived: delete and write them again at will. Cases without vertebrae are left out
    and named. Exit code 3 if a case cannot be written; the others are.
    """
    failed = write_formats(
        results, formats, output, source=source, only_case=only_case, tell=click.echo
    )
    return EXIT_SOME_FAILED if failed else 0


def write_formats(
    results: Path,
    formats: Sequence[str],
    output: Path | None = None,
    *,
    source: Path | None = None,
    only_case: Sequence[str] = (),
    tell: Callable[[str], None],
) -> int:
    """Write formats as the command does; `tell` gets one line for each.

    Returns:
        How many cases could not be written in a format.

    Raises:
        UsageError: a case that is not there, or a format that cannot be written from these results.
    """
    from payerseg.exports.case_result import find_results

    found = find_results(results)
    unknown = set(only_case) - {case.case_id for case in found.cases} - set(found.left_out)
    if unknown:
        msg = f"no case {', '.join(sorted(unknown))} in {results}"
        raise UsageError(msg)
    chosen = [case for case in found.cases if not only_case or case.case_id in only_case]
    n_failed = 0
    root = output or results.with_name(f"{results.resolve().name}_export")
    for name in FORMATS if ALL in formats else dict.fromkeys(formats):
        cases = chosen
        if name == "dicom-seg" and source is None:
            cases = _from_dicom(chosen, others_allowed=ALL in formats)
        if chosen and not cases:
            continue
        written = _writer(name, source)(cases, root / name)
        if name == "dicom-seg":  # one object for each case
            n_failed += len(cases) - len(written)
        tell(f"{name}: {len(cases)} cases, {len(written)} files in {root / name}")
    for case_id, reason in found.left_out.items():
        if not only_case or case_id in only_case:
            click.echo(f"left out {case_id}: {reason}", err=True)
    return n_failed


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

        def tell_failed(case_id: str, error: PayersegError) -> None:
            click.echo(f"failed {case_id} (dicom-seg): {error}", err=True)

        return lambda cases, folder: export_dicom_seg(cases, folder, source, tell_failed)
    from payerseg.exports import folders

    writers = {
        "flat": folders.export_flat,
        "verse": folders.export_verse,
        "slicer": folders.export_slicer,
        "itksnap": folders.export_itksnap,
    }
    return writers[name]
