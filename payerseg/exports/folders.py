"""Folders of files for other tools: flat, VerSe, 3D Slicer, ITK-SNAP. Each function writes them all.

All return the written files; nothing here needs an optional library.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from payerseg.exports.case_result import CaseResult
from payerseg.exports.color_tables import itksnap_labels, slicer_color_table
from payerseg.exports.landmark_files import (
    flat_csv,
    flat_rows,
    slicer_markups,
    verse_centroids,
    write_json,
    write_text,
)


def export_flat(cases: Iterable[CaseResult], folder: Path) -> list[Path]:
    """Write `<case>_segmentation.nii.gz`, `<case>_landmarks.csv` and `.json` side by side.

    The same files as `payerseg run --export flat`.
    """
    written = []
    for case in cases:
        stem = folder / case.case_id
        written += [
            case.copy_segmentation(stem.with_name(f"{stem.name}_segmentation.nii.gz")),
            write_text(flat_csv(case.landmarks), stem.with_name(f"{stem.name}_landmarks.csv")),
            write_json(flat_rows(case.landmarks), stem.with_name(f"{stem.name}_landmarks.json")),
        ]
    return written


def export_verse(cases: Iterable[CaseResult], folder: Path) -> list[Path]:
    """Write `<case>/<case>_seg-vert_msk.nii.gz` and `_seg-subreg_ctd.json` as VerSe names them.

    The centroids are voxel indices of the mask beside them, with its direction in front.
    """
    written = []
    for case in cases:
        place = folder / case.case_id
        mask = case.copy_segmentation(place / f"{case.case_id}_seg-vert_msk.nii.gz")
        centroids = verse_centroids(case.landmarks, case.read_labels().grid)
        path = place / f"{case.case_id}_seg-subreg_ctd.json"
        written += [mask, write_json(centroids, path)]
    return written


def export_slicer(cases: Iterable[CaseResult], folder: Path) -> list[Path]:
    """Write label maps (`.seg.nii.gz` opens as a segmentation), markups and one colour table."""
    written = [write_text(slicer_color_table(), folder / "payerseg.ctbl")]
    for case in cases:
        written += [
            case.copy_segmentation(folder / f"{case.case_id}.seg.nii.gz"),
            write_json(slicer_markups(case.landmarks), folder / f"{case.case_id}.mrk.json"),
        ]
    return written


def export_itksnap(cases: Iterable[CaseResult], folder: Path) -> list[Path]:
    """Write label maps and one label description file."""
    written = [write_text(itksnap_labels(), folder / "payerseg_labels.txt")]
    written += [case.copy_segmentation(folder / f"{case.case_id}_seg.nii.gz") for case in cases]
    return written
