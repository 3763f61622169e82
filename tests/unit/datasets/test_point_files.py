"""Positions of others: every format, every frame, and what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest

from payerseg.datasets.point_files import (
    read_csv_points,
    read_lps_json,
    read_verse_points,
    share_in_own_mask,
    vertebra_named,
)
from payerseg.domain.grid import Grid
from payerseg.domain.landmarks import Landmarks
from payerseg.domain.vertebra import Vertebra
from payerseg.domain.volume import Volume
from payerseg.errors import DatasetError

AXES = {"L": (1, 0, 0), "P": (0, 1, 0), "S": (0, 0, 1)}
AXES |= {"R": (-1, 0, 0), "A": (0, -1, 0), "I": (0, 0, -1)}
NAMES = (Vertebra.T11, Vertebra.T12, Vertebra.L1)
POINTS = np.array([[12.0, 22.0, 58.0], [14.0, 24.0, 40.0], [15.0, 22.0, 20.0]])


def stored_as(codes: str) -> Grid:
    """A scan of 40 x 36 x 80 mm around the points, stored in some axis order."""
    spacing = {"L": 1.0, "R": 1.0, "P": 0.8, "A": 0.8, "S": 2.5, "I": 2.5}
    size = {"L": 40, "R": 40, "P": 45, "A": 45, "S": 32, "I": 32}
    direction = np.array([AXES[code] for code in codes], float).T
    origin = np.zeros(3)
    for code in codes:
        if code in "RAI":  # these axes begin at the far end
            origin += -np.array(AXES[code]) * (size[code] - 1) * spacing[code]
    shape = tuple(size[code] for code in codes)[::-1]
    steps = tuple(spacing[code] for code in codes)
    return Grid(shape, steps, tuple(origin), tuple(direction.ravel()))


def labels_on(grid: Grid) -> Volume:
    array = np.zeros(grid.shape, np.uint8)
    index = np.rint(grid.map_world_to_indices(POINTS)).astype(int)
    for vertebra, (z, y, x) in zip(NAMES, index, strict=True):
        array[max(z - 2, 0) : z + 3, max(y - 2, 0) : y + 3, max(x - 2, 0) : x + 3] = vertebra.value
    return Volume(array, grid)


def write(path: Path, entries: list) -> Path:
    path.write_text(json.dumps(entries), encoding="utf-8")
    return path


def entries_of(points: np.ndarray) -> list[dict]:
    return [
        {"label": v.value, "X": p[0], "Y": p[1], "Z": p[2]}
        for v, p in zip(NAMES, points, strict=True)
    ]


def assert_points(landmarks: Landmarks) -> None:
    assert tuple(landmarks) == NAMES
    np.testing.assert_allclose(landmarks.positions_mm, POINTS, atol=1e-6)


@pytest.mark.parametrize("stored", ["LPS", "RAS", "PIR", "ASL", "SRA"])
@pytest.mark.parametrize("direction", ["PIR", "LPS", "ASR"])
def test_subject_space_indices_in_any_orientation(
    tmp_path: Path, stored: str, direction: str
) -> None:
    grid = stored_as(stored)
    index_xyz = stored_as(direction).map_world_to_indices(POINTS)[:, ::-1]
    path = write(tmp_path / "a_ctd.json", [{"direction": list(direction)}, *entries_of(index_xyz)])
    assert_points(read_verse_points(path, grid))


@pytest.mark.parametrize("stored", ["LPS", "RAS", "PIR"])
@pytest.mark.parametrize("convention", ["iso_pir", "iso_asl"])
def test_old_lists_need_a_frame_or_a_mask(tmp_path: Path, stored: str, convention: str) -> None:
    grid = stored_as(stored)
    codes = convention[-3:].upper()
    frame = stored_as(codes)
    mm = frame.map_world_to_indices(POINTS)[:, ::-1] * frame.spacing_mm
    path = write(tmp_path / "a_iso-ctd.json", entries_of(mm))
    assert_points(read_verse_points(path, grid, convention))  # type: ignore[arg-type]
    assert_points(read_verse_points(path, grid, labels=labels_on(grid)))
    with pytest.raises(DatasetError, match="iso_pir or iso_asl"):
        read_verse_points(path, grid)


def test_old_list_that_fits_no_frame_is_refused(tmp_path: Path) -> None:
    grid = stored_as("LPS")
    path = write(tmp_path / "a_iso-ctd.json", entries_of(POINTS * 0 + 1))
    with pytest.raises(DatasetError, match="frame is not clear"):
        read_verse_points(path, grid, labels=labels_on(grid))


def test_verse_list_leaves_out_sacrum_and_nan(tmp_path: Path) -> None:
    grid = stored_as("LPS")
    index = grid.map_world_to_indices(POINTS)[:, ::-1]
    extra = [
        {"label": 26, "X": 1, "Y": 1, "Z": 1},
        {"label": 23, "X": float("nan"), "Y": 1, "Z": 1},
    ]
    path = write(tmp_path / "a.json", [{"direction": ["L", "P", "S"]}, *entries_of(index), *extra])
    assert_points(read_verse_points(path, grid))


@pytest.mark.parametrize("content", ["[]", "{}", "not json", '[{"direction": ["P","I","R"]}]'])
def test_verse_list_without_vertebra_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(content)
    with pytest.raises(DatasetError):
        read_verse_points(path, stored_as("LPS"))


def test_verse_direction_must_span_space(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", [{"direction": ["P", "A", "R"]}, *entries_of(POINTS)])
    with pytest.raises(DatasetError, match="three codes"):
        read_verse_points(path, stored_as("LPS"))


@pytest.mark.parametrize("space", ["lps_mm", "ras_mm", "voxel"])
@pytest.mark.parametrize("header", ["", "label,X,Y,Z\n"])
def test_csv_in_each_space(tmp_path: Path, space: str, header: str) -> None:
    grid = stored_as("RAS")
    given = {
        "lps_mm": POINTS,
        "ras_mm": POINTS * (-1, -1, 1),
        "voxel": grid.map_world_to_indices(POINTS)[:, ::-1],
    }[space]
    rows = [f"{v.name},{x:.9f},{y:.9f},{z:.9f}" for v, (x, y, z) in zip(NAMES, given, strict=True)]
    path = tmp_path / "a.csv"
    path.write_text(header + "\n".join([*rows, "26,1,1,1", "L3,nan,nan,nan", ""]))
    assert_points(read_csv_points(path, grid, space))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "found"),
    [("T1,1,2\n", "label,X,Y,Z"), ("T1,1,2,3\nT1,1,2,3\n", "twice"), ("29,1,2,3\n", "29")],
)
def test_csv_that_cannot_be_read(tmp_path: Path, text: str, found: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text("label,X,Y,Z\n" + text)
    with pytest.raises(DatasetError, match=found):
        read_csv_points(path)


def test_lps_json(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    data = {
        "space": "LPS physical mm of the CT file",
        "landmarks": {v.name: p.tolist() for v, p in zip(NAMES, POINTS, strict=True)},
        "partial": ["L2", "sacrum"],
    }
    path.write_text(json.dumps(data))
    landmarks, partial = read_lps_json(path)
    assert_points(landmarks)
    assert partial == {Vertebra.L2}
    path.write_text(json.dumps(data | {"space": "RAS mm"}))
    with pytest.raises(DatasetError, match="RAS"):
        read_lps_json(path)


@pytest.mark.parametrize(("text", "expected"), [("Th4", "T4"), ("28", "T13"), (24.0, "L5")])
def test_names(text: str, expected: str) -> None:
    assert vertebra_named(text, "here") is Vertebra[expected]


def test_share_in_own_mask() -> None:
    grid = stored_as("LPS")
    labels = labels_on(grid)
    landmarks = read_pairs(POINTS)
    assert share_in_own_mask(landmarks, labels) == 1
    assert share_in_own_mask(read_pairs(POINTS[::-1]), labels) == pytest.approx(1 / 3)
    assert share_in_own_mask(Landmarks(), labels) == 0


def read_pairs(points: np.ndarray) -> Landmarks:
    from payerseg.domain.landmarks import Landmark

    return Landmarks(Landmark(v, tuple(p)) for v, p in zip(NAMES, points, strict=True))
