"""Folders of files for other tools: flat, VerSe, 3D Slicer, ITK-SNAP. Each function writes them all.

All return the written files and go on past a case that cannot be written as `each_case` does; nothing
here needs an optional library.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from payerseg import atomic
from payerseg.domain.colors import LABELS_HEAD_TO_FOOT, color_of, hex_color_of, name_of
from payerseg.domain.grid import Grid
from payerseg.domain.landmarks import Landmarks
from payerseg.domain.vertebra import COCCYX_LABEL, SACRUM_LABEL
from payerseg.errors import ArtifactError
from payerseg.exports.case_result import CaseResult, TellFailed, each_case
from payerseg.exports.flat import write_flat
from payerseg.imaging.orient import axis_codes

_LABELS = sorted(LABELS_HEAD_TO_FOOT)
_LONG_NAMES = {"C": "cervical vertebra", "T": "thoracic vertebra", "L": "lumbar vertebra"}


def itksnap_labels() -> str:
    """Return an ITK-SNAP label description file."""
    frame = "################################################"
    lines = [
        frame,
        "# ITK-SnAP Label Description File",
        "# File format: ",
        "# IDX   -R-  -G-  -B-  -A--  VIS MSH  LABEL",
        "# Fields: ",
        "#    IDX:   Zero-based index ",
        "#    -R-:   Red color component (0..255)",
        "#    -G-:   Green color component (0..255)",
        "#    -B-:   Blue color component (0..255)",
        "#    -A-:   Label transparency (0.00 .. 1.00)",
        "#    VIS:   Label visibility (0 or 1)",
        "#    IDX:   Label mesh visibility (0 or 1)",
        "#  LABEL:   Label description ",
        frame,
        _snap_row(0, (0, 0, 0), (0, 0, 0), "Clear Label"),
    ]
    lines += [_snap_row(label, color_of(label), (1, 1, 1), name_of(label)) for label in _LABELS]
    return "\n".join(lines) + "\n"


def slicer_color_table() -> str:
    """Return a 3D Slicer colour table (`.ctbl`)."""
    lines = ["# Color table file payerseg, VerSe labels", f"# {len(_LABELS) + 1} values"]
    lines.append("0 background 0 0 0 0")
    for label in _LABELS:
        red, green, blue = color_of(label)
        lines.append(f"{label} {name_of(label)} {red} {green} {blue} 255")
    return "\n".join(lines) + "\n"


def bids_lookup_table() -> str:
    """Return a BIDS `dseg.tsv`: index, name, abbreviation, color, mapping."""
    rows = ["index\tname\tabbreviation\tcolor\tmapping", "0\tbackground\tBG\t#000000\t0"]
    rows += [
        f"{label}\t{_long_name(label)}\t{_abbreviation(label)}\t{hex_color_of(label)}\t{label}"
        for label in _LABELS
    ]
    return "\n".join(rows) + "\n"


def _snap_row(
    index: int, color: tuple[int, int, int], shown: tuple[int, int, int], name: str
) -> str:
    red, green, blue = color
    return f'{index:5d}  {red:4d} {green:4d} {blue:4d}  {shown[0]:7d}  {shown[1]:d}  {shown[2]:d}    "{name}"'


def _long_name(label: int) -> str:
    if label in (SACRUM_LABEL, COCCYX_LABEL):
        return name_of(label)
    return f"{_LONG_NAMES[name_of(label)[0]]} {name_of(label)}"


def _abbreviation(label: int) -> str:
    return {SACRUM_LABEL: "SA", COCCYX_LABEL: "CO"}.get(label, name_of(label))


MARKUPS_SCHEMA = (
    "https://raw.githubusercontent.com/slicer/slicer/master/Modules/Loadable/Markups/Resources/"
    "Schema/markups-schema-v1.0.3.json#"
)
SLICER_RED = (0.9, 0.2, 0.2)


def verse_centroids(landmarks: Landmarks, grid: Grid) -> list[dict[str, Any]]:
    """Return the list of a VerSe `_ctd.json`, subject-space convention.

    Element 0 names the direction of the image's axes, the others hold voxel indices of that image
    in its stored (x, y, z) order.

    Args:
        landmarks: at least one.
        grid: of the image file that the list will lie beside, as stored.

    Raises:
        ArtifactError: no landmark; VerSe's reader takes no empty list.
    """
    if not landmarks:
        msg = "no vertebra to write; a VerSe centroid list needs at least one"
        raise ArtifactError(msg)
    xyz = grid.map_world_to_indices(landmarks.positions_mm)[:, ::-1]
    rows: list[dict[str, Any]] = [{"direction": list(axis_codes(grid))}]
    for vertebra, index in zip(landmarks, xyz, strict=True):
        x, y, z = (round(float(value), 2) for value in index)
        rows.append({"label": vertebra.verse_label, "X": x, "Y": y, "Z": z})
    return rows


def slicer_markups(landmarks: Landmarks) -> dict[str, Any]:
    """Return a 3D Slicer markups file: one fiducial list, LPS mm."""
    points = [
        {
            "id": str(number),
            "label": vertebra.name,
            "description": f"score {mark.score:.2f}",
            "position": [round(value, 4) for value in mark.position_mm],
            "positionStatus": "defined",  # Slicer before 5.0 hides points without it
            "selected": True,
            "locked": False,
            "visibility": True,
        }
        for number, (vertebra, mark) in enumerate(landmarks.items(), start=1)
    ]
    return {
        "@schema": MARKUPS_SCHEMA,
        "markups": [
            {
                "type": "Fiducial",
                "coordinateSystem": "LPS",
                "coordinateUnits": "mm",
                "controlPoints": points,
                "display": {"selectedColor": list(SLICER_RED), "textScale": 3.0},
            }
        ],
    }


def write_json(value: object, path: Path) -> Path:
    """Write plain JSON, UTF-8, in the given order of keys."""
    return write_text(json.dumps(value, indent=1, allow_nan=False, ensure_ascii=False) + "\n", path)


def write_text(text: str, path: Path) -> Path:
    """Write UTF-8 text with plain line ends; return the path."""
    atomic.write_text(path, text)
    return path


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
