"""Edited landmark tables: what can be understood is used, the rest is refused with its line."""

import json

import numpy as np
import pytest

from payerseg.domain.grid import Grid
from payerseg.imaging.orient import Orientation
from payerseg.imaging.scan_record import ScanRecord, SourceHeader
from payerseg.results.artifacts import LANDMARKS_CSV, LANDMARKS_JSON, SCAN
from payerseg.results.case_folder import CaseFolder
from payerseg.results.landmark_edits import _contains, refused_edit
from payerseg.results.landmark_rows import parse_rows

HEAD = "label,X,Y,Z,score,flags\n"
POINTS = {"L1": (21.0, -32.0, 60.0), "L2": (22.0, -31.0, 30.0)}
ROWS = "".join(f"{name},{x},{y},{z},1,\n" for name, (x, y, z) in POINTS.items())


@pytest.fixture
def folder(tmp_path):
    folder = CaseFolder(tmp_path / "a", "a")
    for artifact in (SCAN, LANDMARKS_CSV):
        folder.path(artifact).parent.mkdir(parents=True)
    grid = Grid((60, 80, 80), (2.0, 2.0, 2.0), (-80.0, -80.0, -20.0))
    header = SourceHeader("nifti1", grid)
    record = ScanRecord("a.nii.gz", header, Orientation((0, 1, 2), (False,) * 3), grid)
    folder.path(SCAN).write_text(record.to_json())
    found = {name: {"position_mm": list(point)} for name, point in POINTS.items()}
    folder.path(LANDMARKS_JSON).write_text(json.dumps({"landmarks": found}))
    return folder


def judge(folder, content):
    path = folder.path(LANDMARKS_CSV)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return refused_edit(folder)


UNDERSTOOD = {
    "as it was": HEAD + ROWS,
    "bom": b"\xef\xbb\xbf" + (HEAD + ROWS).encode(),
    "blanks and empty lines": (HEAD + ROWS).replace("L1,", " L1 , ").replace("\n", "\n\n"),
    "semicolons and decimal commas": (HEAD + ROWS).replace(",", ";").replace(".", ","),
    "small letters and numbers": "label,x,y,z\nl1,21,-32,60\n21,22,-31,30\n",
    "carriage returns": (HEAD + ROWS).replace("\n", "\r"),
    "header only": HEAD,
    "moved": HEAD + "L1,10,-20,70,1,\n",
}


@pytest.mark.parametrize("name", UNDERSTOOD)
def test_what_can_be_understood_is_used(folder, name):
    assert judge(folder, UNDERSTOOD[name]) == ""
    if "only" not in name and name != "moved":
        rows = parse_rows(folder.path(LANDMARKS_CSV).read_text(encoding="utf-8-sig"), "table")
        assert {row.vertebra.name: row.position_mm for row in rows} == POINTS


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "is empty"),
        ("label\nL1\n", "column X is missing"),
        (HEAD + "\nQ9,1,2,3,1,\n", "line 3: 'Q9'"),
        (HEAD + "L1,nan,2,3,1,\n", "line 2: 'nan' is not finite"),
        (HEAD + "L1,left,2,3,1,\n", "line 2"),
        (HEAD + "L1,1,2,3,1,\nL1,1,2,3,1,\n", "line 3: L1 more than once"),
        (HEAD + "L1,1\n", "line 2: no Y"),
        (HEAD + f"L1,1,2,3,1,{'f' * 131_073}\n", "line 2: field larger than field limit"),
        (HEAD + "L1,1,2,3,1,\n" * 100_000, "line 3: L1 more than once"),
        (HEAD + "=1+1,1,2,3,1,\n", "line 2: '=1+1'"),
        (HEAD + "0,1,2,3,1,\n", "line 2: 0 is not a valid Vertebra"),
        (HEAD + "1" * 5000 + ",1,2,3,1,\n", "line 2"),
        (HEAD + "\u00b2,1,2,3,1,\n", "line 2"),
        (HEAD + '"L1,1,2,3,1,\n', "line 2: no X"),
        (HEAD + "L1,1,2,3,1,\0\n", "line 2: holds NUL bytes"),
        ((HEAD + ROWS).encode("utf-16"), "cannot be read as UTF-8"),
        ((HEAD + ROWS).encode() + b"# caf\xe9\n", "cannot be read as UTF-8"),
        (HEAD + "L1,1e300,2,3,1,\n", "L1 at 1e+300, 2, 3 mm lies outside the scan"),
        (HEAD + ROWS + "L3,5000,5000,5000,1,\n", "L3 at 5000, 5000, 5000 mm lies outside"),
        (HEAD + "L1,-21,32,60,1,\nL2,-22,31,30,1,\n", "X and Y have the signs of RAS"),
    ],
)  # fmt: skip
def test_what_cannot_is_refused_by_name_and_line(folder, content, said):
    refusal = judge(folder, content)
    assert said in refusal
    assert "landmarks.csv" in refusal
    assert len(refusal) < 500


def test_ras_is_suspected_of_points_outside(folder):
    folder.path(LANDMARKS_JSON).unlink()
    grid = Grid((60, 80, 80), (2.0, 2.0, 2.0), (0.0, 0.0, -20.0))
    record = ScanRecord(
        "a", SourceHeader("nifti1", grid), Orientation((0, 1, 2), (False,) * 3), grid
    )
    folder.path(SCAN).write_text(record.to_json())
    assert judge(folder, HEAD + "L1,21,32,60,1,\n") == ""
    assert "with the signs of RAS turned over it would not" in judge(
        folder, HEAD + "L1,-21,-32,60,1,\n"
    )


def test_a_folder_in_the_place_of_the_table(folder):
    folder.path(LANDMARKS_CSV).mkdir()
    assert "landmarks.csv" in refused_edit(folder)


def test_inside_is_the_same_with_and_without_numpy(any_grid):
    plain = {
        "shape": any_grid.shape,
        "spacing_mm": any_grid.spacing_mm,
        "origin_mm": any_grid.origin_mm,
        "direction": any_grid.direction,
    }
    corners = any_grid.corners_mm()
    around = np.random.default_rng(0).uniform(
        corners.min(axis=0) - 20, corners.max(axis=0) + 20, (300, 3)
    )
    expected = any_grid.contains(around)
    assert [_contains(plain, point) for point in around.tolist()] == expected.tolist()
    assert 0 < expected.sum() < 300
