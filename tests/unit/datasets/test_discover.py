"""Layouts: found, told apart, and refused."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from payerseg.datasets.cases import possible_neighbours
from payerseg.datasets.discover import ReadingRules, discover, read_case
from payerseg.datasets.label_schemes import to_dens_point
from payerseg.datasets.layouts import patient_of, release_of, verse_patient
from payerseg.domain.grid import Grid
from payerseg.domain.landmarks import Landmark, Landmarks
from payerseg.domain.vertebra import Vertebra
from payerseg.domain.volume import Volume
from payerseg.errors import DatasetError
from payerseg.imaging.files import write_volume

GRID = Grid((20, 16, 16), (3, 3, 3))


def put_image(path: Path, value: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_volume(Volume(np.full(GRID.shape, value, np.int16), GRID), path)


def put_text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


@pytest.fixture
def simple(tmp_path: Path) -> Path:
    for name in ("a", "b", "c"):
        put_image(tmp_path / "images" / f"{name}.nii.gz")
    put_text(tmp_path / "landmarks/a.csv", "label,X,Y,Z\nL1,20,20,40\n21,20,22,10\n")
    put_image(tmp_path / "segmentations/b_seg.nii.gz", 20)
    put_text(tmp_path / "train.txt", "a\nb.nii.gz\n# a comment\n")
    put_text(tmp_path / "val.txt", "c\n")
    facts = {"a": {"patient": "p1", "partial": ["L3"], "source": "here", "licence": "CC0"}}
    put_text(tmp_path / "cases.json", json.dumps(facts))
    return tmp_path


def test_simple_layout(simple: Path) -> None:
    dataset = discover(simple)
    assert dataset.layout == "simple"
    assert [(c.case_id, c.split) for c in dataset.cases] == [
        ("a", "train"),
        ("b", "train"),
        ("c", "val"),
    ]
    a, b, c = (read_case(files) for files in dataset.cases)
    assert a.landmarks is not None
    assert list(a.landmarks) == [Vertebra.L1, Vertebra.L2]
    assert (a.patient_id, a.partial, a.licence) == ("p1", {Vertebra.L3}, "CC0")
    assert b.landmarks is None
    assert b.labels is not None
    assert c.landmarks is None
    assert c.labels is None


def test_partial_is_assumed_beyond_the_ends_unless_stated(simple: Path) -> None:
    (simple / "cases.json").unlink()
    a = read_case(discover(simple).cases[0])
    assert a.partial == {Vertebra.T12, Vertebra.L3}


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        ("train.txt", "a\nz\n", "no such case"),
        ("val.txt", "a\n", "expected one of them"),
        ("cases.json", '{"a": {"pateint": "x"}}', "pateint"),
        ("cases.json", "[", "not JSON"),
        ("cases.json", "[]", "`object`, got `array`"),
        (
            "cases.json",
            '{"a": {"partial": "L3"}}',
            r"`array \| null`, got `str` - at `\$.partial`",
        ),
        (
            "cases.json",
            '{"a": {"sacrum": [1, 2]}}',
            r"cases.json, a is .* length 3, got 2 - at `\$.sacrum`",
        ),
    ],
)
def test_simple_layout_with_a_slip(simple: Path, name: str, text: str, found: str) -> None:
    put_text(simple / name, text)
    with pytest.raises(DatasetError, match=found):
        discover(simple)


def put_verse(root: Path, case: str, split: str, *, points: bool = True) -> None:
    subject = case.split("_", maxsplit=1)[0]
    put_image(root / f"dataset-verse20{split}" / "rawdata" / subject / f"{case}_ct.nii.gz")
    derived = root / f"dataset-verse20{split}" / "derivatives" / subject
    put_image(derived / f"{case}_seg-vert_msk.nii.gz", 20)
    if points:
        entries = [{"direction": ["L", "P", "S"]}]
        entries += [{"label": 1, "X": 8, "Y": 8, "Z": 15}, {"label": 2, "X": 8, "Y": 8, "Z": 10}]
        put_text(derived / f"{case}_seg-subreg_ctd.json", json.dumps(entries))


def test_verse_layout(tmp_path: Path) -> None:
    put_verse(tmp_path, "sub-verse500_dir-ax", "training")
    put_verse(tmp_path, "sub-verse400_split-verse090", "validation", points=False)
    dataset = discover(tmp_path)
    assert dataset.layout == "verse"
    assert [(c.case_id, c.patient_id, c.split) for c in dataset.cases] == [
        ("sub-verse400_split-verse090", "verse400", "val"),
        ("sub-verse500_dir-ax", "verse500", "train"),
    ]
    without, with_points = (read_case(files) for files in dataset.cases)
    assert without.landmarks is None
    assert without.labels is not None
    assert with_points.landmarks is not None
    # VerSe 2020 puts C1 lower; it is moved away from C2 to our definition
    gap = with_points.landmarks.positions_mm[0] - with_points.landmarks.positions_mm[1]
    assert np.linalg.norm(gap) == pytest.approx(15 * 22.4 / 17.1)
    kept = read_case(dataset.cases[1], ReadingRules(c1="dens"))
    assert kept.landmarks is not None
    gap = kept.landmarks.positions_mm[0] - kept.landmarks.positions_mm[1]
    assert np.linalg.norm(gap) == pytest.approx(15)


def test_old_verse_layout(tmp_path: Path) -> None:
    put_image(tmp_path / "verse004.nii.gz")
    put_image(tmp_path / "verse004_seg.nii.gz", 20)
    put_text(tmp_path / "verse004_iso-ctd.json", '[{"label": 20, "X": 8, "Y": 8, "Z": 15}]')
    case = discover(tmp_path).cases[0]
    assert case.case_id == "verse004"
    assert case.labels is not None
    assert case.landmark_file is not None


def test_verse_with_two_masks_for_one_scan(tmp_path: Path) -> None:
    put_verse(tmp_path, "sub-verse500", "training")
    put_verse(tmp_path, "sub-verse500", "validation")
    with pytest.raises(DatasetError, match="two files"):
        discover(tmp_path)


def test_no_layout_and_two_layouts(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no known layout"):
        discover(tmp_path)
    (tmp_path / "images").mkdir()
    put_text(tmp_path / "CATALOG.csv", "name,folder,split,source,licence\n")
    with pytest.raises(DatasetError, match="catalog and simple"):
        discover(tmp_path)
    with pytest.raises(DatasetError, match="not a folder"):
        discover(tmp_path / "nowhere")


def test_catalog_layout(tmp_path: Path) -> None:
    rows = [
        "name,folder,split,source,licence,note",
        'x_a,ct,train,"One, Two",CC BY 4.0,',
        "x_b,ct,val,S,MIT,same patient",
        "shape,labels,train,S,MIT,no CT",
    ]
    put_text(tmp_path / "CATALOG.csv", "\n".join(rows))
    points = {"space": "LPS mm", "landmarks": {"T1": [1, 2, 3]}, "partial": []}
    put_text(tmp_path / "landmarks/x_a.json", json.dumps(points))
    first, second = discover(tmp_path).cases
    assert (first.source, first.patient_id) == ("One, Two", second.patient_id)
    case = read_case(first)
    assert case.landmarks is not None
    assert case.partial == frozenset()  # the file says that nothing is partial
    put_text(tmp_path / "CATALOG.csv", rows[0] + "\nx_a,ct,trian,S,MIT,\n")
    with pytest.raises(DatasetError, match=r"line 2 .*'trian' - at `\$\.split`"):
        discover(tmp_path)
    put_text(tmp_path / "CATALOG.csv", "name,folder,split,source\nx_a,ct,train,S\n")
    with pytest.raises(DatasetError, match=r"required field `licence`\); expected a table with"):
        discover(tmp_path)


def test_shared_data_as_it_lies(shared_dir: Path) -> None:
    root = shared_dir / "data"
    with (root / "CATALOG.csv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["folder"] in ("ct", "openkbp")]
    cases = [read_case(files) for files in discover(root).cases]
    assert {
        case.case_id: (len(case.landmarks or ()), case.labels is not None, case.split)
        for case in cases
    } == {row["name"]: (int(row["landmarks"]), row["mask"] == "yes", row["split"]) for row in rows}
    assert all(case.image.is_file() and case.licence for case in cases)


@pytest.mark.parametrize(
    ("chain", "expected"),
    [
        ("C1 C2", {"C3"}),
        ("T13", {"T12", "L1"}),
        ("T12 L1", {"T11", "L2"}),
        ("L4 L5", {"L3"}),
        ("L6", {"L5"}),
        ("", set()),
    ],
)
def test_possible_neighbours(chain: str, expected: set[str]) -> None:
    marks = Landmarks(Landmark(Vertebra[name], (0, 0, 0)) for name in chain.split())
    assert {v.name for v in possible_neighbours(marks)} == expected


def test_c1_without_c2_cannot_be_converted() -> None:
    alone = Landmarks([Landmark(Vertebra.C1, (0, 0, 0))])
    assert not to_dens_point(alone, "verse2020")
    assert to_dens_point(alone, "dens") is alone


def test_names_of_patients_and_releases() -> None:
    assert patient_of("inria_verse400_verse090") == "verse090"
    assert patient_of("acrin_001_a") == patient_of("acrin_001_b") == "acrin_001"
    assert verse_patient("GL090_CT-ax") == "gl090"
    assert release_of(Path("dataset-verse20training/x")) == "2020"
    assert release_of(Path("verse2019/x")) == "2019"
    assert release_of(Path("sub-verse200/x")) == ""
