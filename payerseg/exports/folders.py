"""Folders of files for other tools: flat, VerSe, 3D Slicer, ITK-SNAP. Each function writes them all.

All return the written files and go on past a case that cannot be written as `each_case` does; nothing
here needs an optional library.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from payerseg.exports.case_result import CaseResult, TellFailed, each_case
from payerseg.exports.color_tables import itksnap_labels, slicer_color_table
from payerseg.exports.flat import write_flat
from payerseg.exports.landmark_files import slicer_markups, verse_centroids, write_json, write_text


def export_flat(
    cases: Iterable[CaseResult], folder: Path, tell_failed: TellFailed | None = None
) -> list[Path]:
    """Write the same files as `payerseg run --export flat`, see `write_flat`."""

    def one(case: CaseResult) -> list[Path]:
        points = [(v.verse_label, mark.position_mm) for v, mark in case.landmarks.items()]
        return write_flat(case.case_id, case.segmentation, points, folder)

    return each_case(cases, one, tell_failed)


def export_verse(
    cases: Iterable[CaseResult], folder: Path, tell_failed: TellFailed | None = None
) -> list[Path]:
    """Write `<case>/<case>_seg-vert_msk.nii.gz` and `_seg-subreg_ctd.json` as VerSe names them.

    The centroids are voxel indices of the mask beside them, with its direction in front.
    """

    def one(case: CaseResult) -> list[Path]:
        place = folder / case.case_id
        centroids = verse_centroids(case.landmarks, case.read_labels().grid)
        return [
            case.copy_segmentation(place / f"{case.case_id}_seg-vert_msk.nii.gz"),
            write_json(centroids, place / f"{case.case_id}_seg-subreg_ctd.json"),
        ]

    return each_case(cases, one, tell_failed)


def export_slicer(
    cases: Iterable[CaseResult], folder: Path, tell_failed: TellFailed | None = None
) -> list[Path]:
    """Write label maps (`.seg.nii.gz` opens as a segmentation), markups and one colour table."""

    def one(case: CaseResult) -> list[Path]:
        return [
            case.copy_segmentation(folder / f"{case.case_id}.seg.nii.gz"),
            write_json(slicer_markups(case.landmarks), folder / f"{case.case_id}.mrk.json"),
        ]

    table = write_text(slicer_color_table(), folder / "payerseg.ctbl")
    return [table, *each_case(cases, one, tell_failed)]


def export_itksnap(
    cases: Iterable[CaseResult], folder: Path, tell_failed: TellFailed | None = None
) -> list[Path]:
    """Write label maps and one label description file."""

    def one(case: CaseResult) -> list[Path]:
        return [case.copy_segmentation(folder / f"{case.case_id}_seg.nii.gz")]

    table = write_text(itksnap_labels(), folder / "payerseg_labels.txt")
    return [table, *each_case(cases, one, tell_failed)]
