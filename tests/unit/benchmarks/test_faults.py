"""The campaign's own judgement: what is right is declared for every case, and a wrong outcome is seen."""

import importlib
import json

import pytest

from payerseg.domain.landmarks import Landmark, Landmarks
from payerseg.domain.vertebra import Vertebra

REVIEW = "ok_needs_review"


@pytest.fixture
def faults(repository, monkeypatch):
    """The module benchmarks/faults.py."""
    monkeypatch.syspath_prepend(repository / "benchmarks")
    return importlib.import_module("faults")


@pytest.fixture
def item(faults):
    right = importlib.import_module("fault_cases").Right
    rights = right(("failed_*",), case="bad_*"), right(("ok", REVIEW), "metal|^$")
    return faults.Scans("script", rights)


def test_every_case_has_an_expectation(faults):
    for item in faults.EVERYTHING:
        if isinstance(item, faults.Scans):
            assert item.rights[-1].case == "*", item.script


@pytest.mark.parametrize(
    ("case", "status", "message", "right"),
    [
        ("a", "ok", "", True), ("a", REVIEW, "12 ml of metal", True), ("a", REVIEW, "doubt", False),
        ("a", "no_spine", "", False), ("bad_a", "ok", "", False), ("bad_a", "failed_x_y", "", True),
        ("bad_a", "failed_x_bug", "TypeError: this is a bug", False),
    ],
)  # fmt: skip
def test_outcomes_are_held_against_what_is_right(
    faults, item, tmp_path, case, status, message, right
):
    ended = {case: {"status": status, "message": message}}
    assert faults.judge(item, case, ended, tmp_path, {}).right is right
    assert not faults.judge(item, case, {}, tmp_path, {}).right


def test_names_are_held_against_the_marked_centres(faults, tmp_path):
    marks = {"L1": [0.0, 0.0, 0.0], "L2": [0.0, 0.0, -35.0]}
    (tmp_path / "a.truth.json").write_text(json.dumps({"landmarks": marks}))
    truth = faults.truth_of(tmp_path / "a.nii.gz")

    def found(**heights):
        return Landmarks(Landmark(Vertebra[v], (2.0, 0.0, z)) for v, z in heights.items())

    assert faults.wrong_names(found(L1=3.0, L2=-33.0, L3=-70.0), truth) == []
    assert faults.wrong_names(found(T12=3.0, L1=-33.0), truth) == [
        "T12 lies at L1",
        "L1 lies at L2",
    ]
