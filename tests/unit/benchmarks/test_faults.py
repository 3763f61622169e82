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
def cases():
    return importlib.import_module("fault_cases")


@pytest.fixture
def item(cases):
    rights = cases.Right(("failed_*",), case="bad_*"), cases.Right(("ok", REVIEW), "metal|^$")
    return cases.Scans("script", rights)


def ran(faults, results, cases=None, code=0, output=""):
    return faults.Ran(results, code, cases or {}, [], output)


def test_every_case_has_an_expectation(faults):
    for item in faults.EVERYTHING:
        assert item.rights[-1].case == "*", item.script


def test_every_script_is_declared(cases, shared_dir):
    scripts = {path.stem for path in (shared_dir / "cases").glob("*.py")} - {"_parts"}
    assert scripts == {item.script for item in cases.EVERYTHING} | {*cases.OF_RESULTS}


@pytest.mark.parametrize(
    ("case", "status", "message", "right"),
    [
        ("a", REVIEW, "", True), ("a", REVIEW, "12 ml of metal", True), ("a", REVIEW, "doubt", False),
        ("a", "no_spine", "", False), ("bad_a", "ok", "", False), ("bad_a", "failed_x_y", "", True),
    ],
)  # fmt: skip
def test_outcomes_are_held_against_what_is_right(
    faults, item, tmp_path, case, status, message, right
):
    ended = {case: {"status": status, "message": message}}
    assert faults.judge(item, case, ran(faults, tmp_path, ended)).right is right
    assert not faults.judge(item, case, ran(faults, tmp_path, ended, code=1)).right
    crashed = ran(faults, tmp_path, ended, output="KeyError: this is a bug")
    assert not faults.judge(item, case, crashed).right
    assert not faults.judge(item, case, ran(faults, tmp_path)).right


def test_cases_of_a_study_that_nobody_expects_are_wrong(faults, cases, tmp_path):
    both = {name: {"status": "ok_x", "message": ""} for name in "ab"}
    for finds, right in ((("a", "b"), True), (("a",), False), ((), True)):
        item = cases.Scans("script", (cases.Right(("ok_x",), finds=finds),), layout="studies")
        assert faults.judge(item, "a", ran(faults, tmp_path, both), "study").right is right


def test_what_must_not_be_shown_and_formulas_are_found(faults, cases, tmp_path):
    item = cases.Scans("script", (cases.Right(("ok_x",), hides="DOE"),))
    ended = {"a": {"status": "ok_x", "message": ""}}
    assert faults.judge(item, "a", ran(faults, tmp_path, ended)).right
    assert not faults.judge(item, "a", ran(faults, tmp_path, ended, output="of DOE^J")).right
    (tmp_path / "summary.csv").write_text("case_id,status\n'=1+1,ok\n")
    assert faults.judge(item, "a", ran(faults, tmp_path, ended)).right
    (tmp_path / "summary.csv").write_text("case_id,status\n=1+1,ok\n")
    assert not faults.judge(item, "a", ran(faults, tmp_path, ended)).right
    (tmp_path / "summary.csv").write_text("case_id,status\nDOE,ok\n")
    assert not faults.judge(item, "a", ran(faults, tmp_path, ended)).right


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
