"""The linter: a good set passes, and every kind of slip is named."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from payerseg.datasets.discover import discover
from payerseg.domain.grid import Grid
from payerseg.domain.landmarks import Landmark, Landmarks
from payerseg.domain.vertebra import Vertebra
from payerseg.domain.volume import Volume
from payerseg.imaging.files import write_volume
from payerseg.training.check import Finding, Severity, check_dataset
from payerseg.training.check_chain import chain_findings, expected_distance_mm, levels_between

BIG = Grid((900, 200, 200), (1, 1, 1), (-100, -100, -450))


def write_case(root: Path, name: str, spine, split: str = "train") -> None:
    for folder in ("images", "segmentations", "landmarks"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    write_volume(spine.ct, root / "images" / f"{name}.nii.gz")
    write_volume(spine.labels, root / "segmentations" / f"{name}_seg.nii.gz")
    write_marks(root, name, spine.landmarks)
    with (root / f"{split}.txt").open("a") as file:
        file.write(name + "\n")


def write_marks(root: Path, name: str, marks: Landmarks) -> None:
    rows = [f"{v.name},{x},{y},{z}" for v, (x, y, z) in zip(marks, marks.positions_mm, strict=True)]
    (root / "landmarks" / f"{name}.csv").write_text("label,X,Y,Z\n" + "\n".join(rows) + "\n")


@pytest.fixture(scope="module")
def spine_a(synthetic_spine):
    return synthetic_spine(seed=1)


@pytest.fixture(scope="module")
def good_set(tmp_path_factory, spine_a, synthetic_spine) -> Path:
    root = tmp_path_factory.mktemp("good")
    write_case(root, "a", spine_a)
    write_case(root, "b", synthetic_spine(seed=2, first="T11", last="L3"), "val")
    return root


@pytest.fixture
def good(tmp_path: Path, good_set: Path) -> Path:
    return shutil.copytree(good_set, tmp_path / "set")


def codes(root: Path) -> dict[str, Severity]:
    return {f.code: f.severity for f in check_dataset(discover(root)) if f.code != "no_licence"}


def test_a_good_set_has_no_errors(good: Path) -> None:
    found = check_dataset(discover(good))
    assert {f.code for f in found} <= {"no_licence", "mask_without_mark"}, found


Slip = Callable[[Path, object], None]


def masks(root: Path, spine, change: Callable[[np.ndarray], np.ndarray]) -> None:
    labels = spine.labels.with_array(np.ascontiguousarray(change(spine.labels.array.copy())))
    write_volume(labels, root / "segmentations" / "a_seg.nii.gz")


def relabelled(array: np.ndarray, old: int, new: int) -> np.ndarray:
    array[array == old] = new
    return array


def shifted_header(root: Path, spine) -> None:
    grid = replace(spine.labels.grid, origin_mm=(9.0, 0.0, 0.0))
    write_volume(Volume(spine.labels.array, grid), root / "segmentations" / "a_seg.nii.gz")


def renamed(root: Path, spine, shift: int) -> None:
    marks = [
        Landmark(Vertebra(v.verse_label + shift), m.position_mm) for v, m in spine.landmarks.items()
    ]
    write_marks(root, "a", Landmarks(marks))


def moved_marks(root: Path, spine, move: Callable[[np.ndarray], np.ndarray]) -> None:
    write_marks(root, "a", spine.landmarks.moved(move))


def fake_image(root: Path, spine) -> None:
    low = spine.ct.with_array(np.clip(spine.ct.array, 0, 100).astype(np.int16))
    write_volume(low, root / "images" / "a.nii.gz")


def append_row(root: Path, text: str) -> None:
    with (root / "landmarks" / "a.csv").open("a") as file:
        file.write(text + "\n")


SLIPS: dict[str, Slip] = {
    "grid_differs": shifted_header,
    "empty_mask": lambda r, s: masks(r, s, np.zeros_like),
    "label_out_of_range": lambda r, s: masks(r, s, lambda a: relabelled(a, 18, 43)),
    "doubled_level": lambda r, s: masks(r, s, lambda a: relabelled(a, 18, 17)),
    "mirrored_head_foot": lambda r, s: masks(r, s, lambda a: a[::-1]),
    "mirrored_mask": lambda r, s: masks(r, s, lambda a: a[:, ::-1]),
    "landmark_outside_mask": lambda r, s: renamed(r, s, -1),
    "landmark_outside_image": lambda r, s: moved_marks(r, s, lambda p: p + np.array([500, 0, 0])),
    "not_hounsfield": fake_image,
    "image_unreadable": lambda r, _: (r / "images" / "a.nii.gz").write_bytes(b"no"),
    "mask_unreadable": lambda r, _: (r / "segmentations" / "a_seg.nii.gz").write_bytes(b"no"),
    "landmarks_unreadable": lambda r, _: append_row(r, "L3,1,2"),
    "no_landmarks": lambda r, _: (r / "landmarks" / "a.csv").write_text("label,X,Y,Z\n"),
}


@pytest.mark.parametrize("code", SLIPS)
def test_slips_in_one_case(good: Path, spine_a, code: str) -> None:
    SLIPS[code](good, spine_a)
    found = codes(good)
    assert code in found
    expected = {"not_hounsfield": Severity.WARNING, "no_landmarks": Severity.WARNING}
    assert found[code] is expected.get(code, Severity.ERROR)


def test_doubled_and_unknown_labels_in_the_position_file(good: Path) -> None:
    append_row(good, "L1,0,0,0")
    assert codes(good)["doubled_level"] is Severity.ERROR
    append_row(good, "77,0,0,0")
    assert "label_out_of_range" in codes(good)


def test_the_same_image_on_both_sides(good: Path) -> None:
    shutil.copy(good / "images" / "a.nii.gz", good / "images" / "c.nii.gz")
    assert codes(good)["duplicate_image"] is Severity.WARNING
    with (good / "val.txt").open("a") as file:
        file.write("c\n")
    assert codes(good)["duplicate_image"] is Severity.ERROR


def test_one_patient_on_both_sides(good: Path) -> None:
    (good / "cases.json").write_text('{"a": {"patient": "p"}, "b": {"patient": "p"}}')
    assert codes(good)["patient_in_train_and_val"] is Severity.ERROR


def test_no_val_and_no_split(good: Path) -> None:
    (good / "val.txt").unlink()
    assert codes(good)["no_split"] is Severity.WARNING
    (good / "train.txt").unlink()
    assert "no_split" in codes(good)


def test_errors_come_first(good: Path, spine_a) -> None:
    shifted_header(good, spine_a)
    found = check_dataset(discover(good))
    ranks = [list(Severity).index(f.severity) for f in found]
    assert ranks == sorted(ranks)
    assert isinstance(found[0], Finding)
    assert found[0].case_id == "a"


def column(names: str, steps_mm: list[float]) -> Landmarks:
    z = 300 - np.concatenate([[0], np.cumsum(steps_mm)])
    return Landmarks(
        Landmark(Vertebra[name], (0, 0, h)) for name, h in zip(names.split(), z, strict=True)
    )


@pytest.mark.parametrize(
    ("marks", "expected"),
    [
        (column("T9 T10 T11 T12 L1", [24, 26, 28, 30]), set()),
        (column("T9 T10 T11 L1", [24, 26, 30]), set()),  # T12 may be absent
        (column("T10 T11 T12 T13 L1", [24, 26, 28, 30]), set()),
        (column("T8 T9 T11 T12", [23, 25, 28]), {"skipped_level"}),
        (column("T8 T9 T11 T12", [23, 51, 28]), {"unmarked_between"}),
        (column("T8 T9 T10 T11", [23, 48, 26]), {"unmarked_between"}),
        (column("T8 T9 T10 T11", [23, 4, 26]), {"doubled_level"}),
        (column("T8 T9 T10 T11 T12", [23, 11, 26, 28]), {"too_near"}),
        (column("T8 T9 T10", [-23, -24]), {"mirrored_head_foot"}),
        (column("T8 T10 T9 T11", [23, 24, 24]), {"order"}),
        # a child: everything is small, nothing is wrong
        (column("T9 T10 T11 T12 L1", [13, 14, 15, 16]), set()),
    ],
)
def test_chains(marks: Landmarks, expected: set[str]) -> None:
    found = {code for _, code, _ in chain_findings(marks, BIG)}
    assert (expected <= found) if expected else not found


def test_hints_for_other_spaces() -> None:
    grid = Grid((60, 60, 60), (2, 2, 2), (-300, -300, 0))
    marks = column("T9 T10", [24]).moved(lambda p: p * (0, 0, 1) + (250, 250, -200))
    message = next(text for _, _, text in chain_findings(marks, grid))
    assert "ras_mm" in message
    voxels = Landmarks([Landmark(Vertebra.T9, (30, 30, 40))])
    assert "voxel" in next(text for _, _, text in chain_findings(voxels, grid))


def test_expected_distances() -> None:
    assert levels_between(Vertebra.T11, Vertebra.L1) == ()
    assert levels_between(Vertebra.T8, Vertebra.T11) == (Vertebra.T9, Vertebra.T10)
    assert expected_distance_mm(Vertebra.T8, Vertebra.T10) == pytest.approx(48.6, abs=2)
    assert 25 < expected_distance_mm(Vertebra.L5, Vertebra.L6) < 40


def test_shared_data_has_no_errors(shared_dir: Path) -> None:
    dataset = discover(shared_dir / "data")
    some = replace(dataset, cases=tuple(c for c in dataset.cases if c.labels or "pt2" in c.case_id))
    found = check_dataset(some)
    assert not [f for f in found if f.severity is Severity.ERROR]


def test_every_check_is_documented(repository: Path) -> None:
    page = (repository / "docs" / "train-your-own.md").read_text(encoding="utf-8")
    missing = [
        code for code in SLIPS if code not in page and not code.startswith(("image_", "mask_"))
    ]
    assert not missing
