"""Folds: by patient, deterministic, kept."""

import json
from pathlib import Path

import pytest

from payerseg.errors import DatasetError
from payerseg.training.folds import Folds, make_folds, patients_in_both, read_or_make_folds

PATIENTS = {f"case{i:02d}": f"patient{i // 2:02d}" for i in range(22)} | {"solo": "solo"}


@pytest.mark.parametrize("n_folds", [2, 3, 5])
def test_no_patient_is_on_both_sides(n_folds: int) -> None:
    folds = make_folds(PATIENTS, n_folds, seed=4)
    seen: list[str] = []
    for fold in range(n_folds):
        train, val = folds.split(fold)
        assert not patients_in_both((PATIENTS[c] for c in train), (PATIENTS[c] for c in val))
        assert set(train) | set(val) == set(PATIENTS)
        seen += val
    assert sorted(seen) == sorted(PATIENTS)
    sizes = [len(part) for part in folds.parts]
    assert max(sizes) - min(sizes) <= 2


def test_same_seed_same_folds_in_any_order() -> None:
    reverse = dict(reversed(PATIENTS.items()))
    assert make_folds(PATIENTS, 3, 1) == make_folds(reverse, 3, 1)
    assert make_folds(PATIENTS, 3, 1) != make_folds(PATIENTS, 3, 2)


def test_folds_are_kept_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folds.json"
    made = read_or_make_folds(path, PATIENTS, 3, 7)
    assert read_or_make_folds(path, PATIENTS, 3, 99) == made  # the file decides, not the seed
    with pytest.raises(DatasetError, match="extra"):
        read_or_make_folds(path, PATIENTS | {"extra": "x"}, 3, 7)
    with pytest.raises(DatasetError, match="3 folds"):
        read_or_make_folds(path, PATIENTS, 4, 7)


def test_what_cannot_be_divided() -> None:
    with pytest.raises(DatasetError, match="1 patients"):
        make_folds({"a": "p", "b": "p"}, 2)
    with pytest.raises(DatasetError, match="fold 3"):
        make_folds(PATIENTS, 3).split(3)


def test_a_damaged_file(tmp_path: Path) -> None:
    path = tmp_path / "folds.json"
    with pytest.raises(DatasetError, match="no folds"):
        Folds.read(path)
    path.write_text("{}")
    with pytest.raises(DatasetError, match="missing required field `parts`"):
        Folds.read(path)
    path.write_text(json.dumps({"seed": 0, "parts": [["a"], ["a"]]}))
    with pytest.raises(DatasetError, match="two folds"):
        Folds.read(path)
    path.write_text(json.dumps({"seed": 0, "parts": [["a"], [1]]}))
    with pytest.raises(DatasetError, match=r"`str`, got `int` - at `\$\.parts\[1\]\[0\]`"):
        Folds.read(path)
    path.write_text(json.dumps({"format": 1, "seed": 3, "parts": [["a"], ["b"]]}))
    assert Folds.read(path) == Folds((("a",), ("b",)), 3)
