"""`payerseg report`: the page is written, ratings are merged and kept, strangers are named."""

import json
import re

import pytest

from payerseg.cli.app import payerseg, run_guarded

LATER, EARLIER = "2026-01-02T00:00:00.000Z", "2026-01-01T00:00:00.000Z"


def call(capsys, *arguments):
    capsys.readouterr()
    code = run_guarded(payerseg, ["report", *map(str, arguments)])
    out, err = capsys.readouterr()
    return code, out, err


def facts(page):
    text = page.read_text(encoding="utf-8")
    return json.loads(re.search(r'id="facts">(.*?)</script>', text, re.DOTALL).group(1))


def ratings_file(path, **ratings):
    entries = {case: {"rating": r, "comment": "", "at": at} for case, (r, at) in ratings.items()}
    path.write_text(json.dumps({"format": 1, "ratings": entries}))
    return path


@pytest.fixture
def results(tmp_path):
    root = tmp_path / "results"
    for name, status in (("a", "ok"), ("b", "no_spine"), ("c", "failed_preparation_unreadable")):
        (root / name).mkdir(parents=True)
        (root / name / "status.json").write_text(json.dumps({"case_id": name, "status": status}))
    (root / ".payerseg" / "runs" / "2026-01-01T00-00-00_aaaa").mkdir(parents=True)
    return root


def test_all_cases_are_on_the_page(results, capsys):
    code, out, err = call(capsys, results)
    assert (code, err) == (0, "")
    assert out.strip() == str(results / "report.html")
    found = facts(results / "report.html")
    assert [(case["id"], case["kind"]) for case in found["cases"]] == [
        ("a", "ok"), ("b", "no_spine"), ("c", "failed"),
    ]  # fmt: skip
    assert found["key"] == "2026-01-01T00-00-00_aaaa"


def test_ratings_are_merged_and_kept(results, tmp_path, capsys):
    one = ratings_file(tmp_path / "one.json", a=("pass", EARLIER), b=("fail", LATER))
    two = ratings_file(tmp_path / "two.json", a=("unsure", LATER), b=("pass", EARLIER))
    code, *_ = call(capsys, results, "--ratings", one, "--ratings", two)
    assert code == 0
    call(capsys, results)  # without files: what is kept is still there
    found = facts(results / "report.html")["ratings"]
    assert {case: rating["rating"] for case, rating in found.items()} == {
        "a": "unsure",
        "b": "fail",
    }


def test_strangers_are_named(results, tmp_path, capsys):
    *_, err = call(
        capsys, results, "--ratings", ratings_file(tmp_path / "x.json", z=("pass", LATER))
    )
    assert "z" in err


def test_what_cannot_be_used_is_refused(results, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    code, _, err = call(capsys, tmp_path / "empty")
    assert code == 2
    assert "payerseg run" in err
    (tmp_path / "bad.json").write_text("{}")
    code, _, err = call(capsys, results, "--ratings", tmp_path / "bad.json")
    assert code == 2
    assert "bad.json" in err
