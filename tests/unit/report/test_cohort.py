"""The cohort page: who stands out, what is escaped, how folders of every fate are read."""

import json
import re

import numpy as np
import pytest

from payerseg.report.cohort import (
    CohortCase,
    Rating,
    cohort_page,
    find_outliers,
    modified_scores,
    read_case,
)
from payerseg.results.artifacts import FINDINGS, LANDMARKS_CSV, REPORT
from payerseg.results.case_folder import CaseFolder
from payerseg.results.fingerprint import HashMemo
from payerseg.results.status import StageOutcome, StageState
from payerseg.stagekit.case_state import current_result
from payerseg.stagekit.catalog import PIPELINE


def read(folder):
    return read_case(current_result(folder, HashMemo()))


EVIL = "<img src=x onerror=alert(1)>"


def case(name, volume=50.0, findings=(), **more):
    row = {
        "level": "L1",
        "volume_ml": volume,
        "next_mm": 30.0,
        "core_hu": None,
        "findings": findings,
    }
    return CohortCase(name, "ok", vertebrae=(row,), **more)


@pytest.fixture
def many():
    volumes = np.random.default_rng(0).normal(50, 4, 20)
    return [case(f"sub-{k:02d}", float(volume)) for k, volume in enumerate(volumes)]


def test_a_strange_value_stands_out(many):
    outliers = find_outliers([*many, case("odd", 100.0)])
    assert [(o.case_id, o.level, o.quantity) for o in outliers] == [("odd", "L1", "volume_ml")]
    assert outliers[0].median == pytest.approx(50, abs=3)


def test_usual_values_and_few_cases_stay_silent(many):
    assert find_outliers(many) == ()
    assert find_outliers([*many[:5], case("odd", 100.0)]) == ()


def test_cut_vertebrae_are_not_compared(many):
    assert find_outliers([*many, case("cut", 10.0, findings=("border",))]) == ()


def test_nearly_equal_values_stay_silent():
    assert np.abs(modified_scores([50.0] * 9 + [52.0])[1]).max() < 3.5


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        ("ok", "ok"), ("ok_needs_review", "review"), ("no_spine", "no_spine"),
        ("failed_vertebrae_localization_out_of_memory", "failed"), ("", "unfinished"),
        ("blocked", "unfinished"),
    ],
)  # fmt: skip
def test_every_status_has_a_kind(status, kind):
    assert CohortCase("a", status).kind == kind


def test_folders_of_every_fate_are_read(tmp_path, seal):
    done = CaseFolder(tmp_path / "done", "done")
    done.path(FINDINGS).parent.mkdir(parents=True)
    done.path(FINDINGS).write_text(json.dumps({"vertebrae": [{"level": "L1"}], "findings": []}))
    done.path(REPORT).write_text("page")
    seconds = {
        spec.name: StageOutcome(StageState.DONE, seconds=0.5 + spec.step) for spec in PIPELINE
    }
    seal(done, stages=seconds)
    found = read(done)
    assert (found.status, found.seconds, found.picture) == ("ok", 12.5, None)
    assert found.page.as_posix() == "done/step4_quality_report/report.html"
    assert found.vertebrae == ({"level": "L1"},)
    broken = CaseFolder(tmp_path / "broken", "broken")
    broken.root.mkdir()
    broken.status_path.write_text("[")
    assert read(broken).kind == "unfinished"


def test_what_is_stale_says_so_and_has_no_numbers(tmp_path, seal):
    case = CaseFolder(tmp_path / "a", "a")
    for artifact, text in (
        (LANDMARKS_CSV, "label,X,Y,Z\n"),
        (FINDINGS, '{"vertebrae": [{"level": "L1"}]}'),
    ):
        case.path(artifact).parent.mkdir(parents=True)
        case.path(artifact).write_text(text)
    seal(case)
    assert read(case).vertebrae == ({"level": "L1"},)
    case.path(LANDMARKS_CSV).write_text("label,X,Y,Z\nL2,1,2,3\n")
    found = read(case)
    assert (found.kind, found.vertebrae, found.page) == ("stale", (), None)
    assert "landmarks_csv changed" in found.message


def test_everything_foreign_is_escaped(tmp_path):
    finding = {"code": "size", "severity": "warning", "message": EVIL}
    evil = CohortCase(f"{EVIL}</script>", "failed_x", EVIL, findings=(finding,))
    page = cohort_page(EVIL, "key", [evil], {EVIL: Rating("pass", EVIL)})
    assert EVIL not in page
    assert page.count("</script>") == 2
    facts = json.loads(re.search(r'id="facts">(.*?)</script>', page, re.DOTALL).group(1))
    assert facts["cases"][0]["id"] == f"{EVIL}</script>"
    assert facts["ratings"][EVIL]["comment"] == EVIL


def test_links_survive_odd_names(tmp_path, seal):
    name = "a b#1%"
    folder = CaseFolder(tmp_path / name, name)
    folder.path(REPORT).parent.mkdir(parents=True)
    folder.path(REPORT).write_text("page")
    page = cohort_page("out", "key", [read(seal(folder))], {})
    assert '"page":"a%20b%231%25/step4_quality_report/report.html"' in page
