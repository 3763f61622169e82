"""Which self-made masks are kept, and what the data set they make looks like."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))  # importlib mode: no packages among tests
from result_folders import seal

from payerseg.datasets.discover import discover, read_case
from payerseg.domain.grid import Grid
from payerseg.domain.landmarks import Landmark, Landmarks
from payerseg.domain.vertebra import Vertebra
from payerseg.domain.volume import Volume
from payerseg.errors import DatasetError
from payerseg.imaging.files import read_volume, write_volume
from payerseg.results.artifacts import LANDMARKS_CSV, MASK_REPORT, SEGMENTATION
from payerseg.results.case_folder import CaseFolder
from payerseg.results.formats import write_artifact
from payerseg.training.adoption import adopt_results

V = Vertebra
LEVELS = (V.T9, V.T10, V.T11, V.T12)
GOOD = {"problems": [], "mean_probability": 0.95, "dropped_part": 0.0, "lost_part": 0.0}


def box_of(place: int) -> tuple[slice, slice, slice]:
    return slice(8 + 16 * (3 - place), 20 + 16 * (3 - place)), slice(10, 26), slice(10, 30)


def scan(bone: float = 300.0) -> tuple[Volume, Volume, Landmarks]:
    """Four boxes of bone in a column of soft tissue, 2 mm."""
    grid = Grid((80, 36, 40), (2.0, 2.0, 2.0), (0.0, 0.0, 0.0))
    hu, labels, marks = np.full(grid.shape, 40, np.int16), np.zeros(grid.shape, np.uint8), []
    for place, vertebra in enumerate(LEVELS):
        box = box_of(place)
        hu[box], labels[box] = bone, vertebra.verse_label
        middle = [(s.start + s.stop - 1) for s in box]  # index * 2 mm
        marks.append(Landmark(vertebra, tuple(float(m) for m in middle[::-1])))
    return Volume(hu, grid), Volume(labels, grid), Landmarks(marks)


class Workplace:
    """A data set and the results of a run on it, made by hand."""

    def __init__(self, root: Path) -> None:
        self.data, self.results, self.out = root / "data", root / "results", root / "out"

    def add(self, name: str, *, known: bool = True, status: str = "ok", record=None, **changes):
        ct, labels, marks = scan(changes.get("bone", 300.0))
        labels = changes.get("labels", labels)
        (self.data / "images").mkdir(parents=True, exist_ok=True)
        write_volume(ct, self.data / "images" / f"{name}.nii.gz")
        if known:
            (self.data / "landmarks").mkdir(exist_ok=True)
            rows = [(v.verse_label, *m.position_mm) for v, m in marks.items()]
            text = "\n".join(",".join(map(str, row)) for row in rows)
            (self.data / "landmarks" / f"{name}.csv").write_text(f"label,X,Y,Z\n{text}\n")
        folder = CaseFolder(self.results / name, name)

        def put(artifact, value) -> None:
            folder.path(artifact).parent.mkdir(parents=True, exist_ok=True)
            write_artifact(artifact, value, folder.path(artifact), folder)

        folder.path(SEGMENTATION).parent.mkdir(parents=True)
        write_volume(labels, folder.path(SEGMENTATION))
        put(LANDMARKS_CSV, changes.get("found", marks))
        entries = {v.name: GOOD | {"volume_ml": 30.0} for v in LEVELS}
        for vertebra, entry in (record or {}).items():
            entries[vertebra.name] = entries[vertebra.name] | entry
        put(MASK_REPORT, entries)
        seal(folder, status=status)

    def adopt(self) -> dict:
        return {a.case_id: a for a in adopt_results(discover(self.data), self.results, self.out)}


@pytest.fixture
def place(tmp_path: Path) -> Workplace:
    return Workplace(tmp_path)


def test_good_masks_become_a_data_set(place: Workplace) -> None:
    place.add("a")
    assert place.adopt()["a"].kept == LEVELS
    (case,) = discover(place.out).cases
    read = read_case(case)
    assert tuple(read.landmarks) == LEVELS
    assert read.patient_id == "a"
    labels = read_volume(read.labels)
    assert set(np.unique(labels.array)) == {0, *(v.verse_label for v in LEVELS)}
    assert labels.grid.same_space_as(read_volume(read.image).grid)


def test_masks_of_before_an_edit_do_not_teach(place: Workplace) -> None:
    place.add("a")
    table = CaseFolder(place.results / "a", "a").path(LANDMARKS_CSV)
    table.write_text(table.read_text().replace("T12", "L1"))
    outcome = place.adopt()["a"]
    assert (outcome.kept, "landmarks_csv changed" in outcome.reason) == ((), True)


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ({"mean_probability": 0.7}, "probability"),
        ({"dropped_part": 0.3}, "apart"),
        ({"lost_part": 0.2}, "neighbours"),
        ({"problems": ["too small"]}, "too small"),
        ({"volume_ml": 60.0}, "2.00 times"),
    ],
)
def test_a_doubtful_record_leaves_one_mask_out(place: Workplace, record: dict, said: str) -> None:
    place.add("a", record={V.T10: record})
    outcome = place.adopt()["a"]
    assert outcome.kept == (V.T9, V.T11, V.T12)
    assert said in outcome.refused[V.T10]
    labels = read_volume(place.out / "segmentations" / "a_seg.nii.gz")
    assert V.T10.verse_label not in labels.array


def test_a_mask_away_from_the_known_position_is_left_out(place: Workplace) -> None:
    _, _, marks = scan()
    moved = replace(marks[V.T11], position_mm=tuple(np.add(marks[V.T11].position_mm, (0, 0, 9.0))))
    place.add("a", found=Landmarks([*(marks[v] for v in LEVELS if v != V.T11), moved]))
    outcome = place.adopt()["a"]
    assert V.T11 not in outcome.kept
    assert "9.0 mm" in outcome.refused[V.T11]


def test_a_mask_that_the_scan_cuts_is_left_out(place: Workplace) -> None:
    _, labels, _ = scan()
    labels.array[:20][:, 10:26, 10:30] = V.T12.verse_label
    place.add("a", labels=labels)
    assert "face" in place.adopt()["a"].refused[V.T12]


def test_masks_of_no_bone_are_left_out(place: Workplace) -> None:
    place.add("a", bone=60.0)
    outcome = place.adopt()["a"]
    assert not outcome.kept
    assert all("20 HU" in doubt for doubt in outcome.refused.values())
    assert not (place.out / "images" / "a.nii.gz").exists()


def test_without_known_positions_only_undoubted_cases_count(place: Workplace) -> None:
    place.add("sure", known=False)
    place.add("unsure", known=False, status="ok_needs_review")
    outcomes = place.adopt()
    assert outcomes["sure"].kept == LEVELS
    assert "ok_needs_review" in outcomes["unsure"].reason


def test_validation_cases_never_teach(place: Workplace) -> None:
    place.add("a")
    place.add("b")
    (place.data / "val.txt").write_text("b\n")
    outcomes = place.adopt()
    assert outcomes["a"].kept
    assert "val case" in outcomes["b"].reason
    assert [case.case_id for case in discover(place.out).cases] == ["a"]


def test_results_of_another_data_set_are_refused(place: Workplace) -> None:
    place.add("a")
    (place.results / "a").rename(place.results / "elsewhere")
    with pytest.raises(DatasetError, match="run payerseg"):
        place.adopt()
