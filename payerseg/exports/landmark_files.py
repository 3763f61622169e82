"""Landmarks in the files of others: VerSe centroid lists, 3D Slicer markups."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from payerseg import atomic
from payerseg.domain.grid import Grid
from payerseg.domain.landmarks import Landmarks
from payerseg.errors import ArtifactError
from payerseg.imaging.orient import axis_codes

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
