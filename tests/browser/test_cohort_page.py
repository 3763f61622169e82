"""The cohort page in Chromium: sort, filter, rate by keyboard, and ratings outlive the page."""

import json
import shutil
import time

import pytest
from chromium import Browser, find_chromium
from result_folders import seal

from payerseg.cli.app import payerseg, run_guarded
from payerseg.report.cohort import read_ratings
from payerseg.results.case_folder import CaseFolder
from payerseg.results.status import StageOutcome, StageState

SHOWN = "[...document.querySelectorAll('#table tbody tr')].map((row) => row.dataset.case)"
PUT = (
    "(() => {{ const e = document.getElementById('{0}'); e.value = '{1}';"
    "e.dispatchEvent(new Event('input')); }})()"
)
CURRENT = "document.querySelector('#table tr.on').dataset.case"


def put_result(root, name, status, k):
    folder = root / name / "step4_quality_report"
    folder.mkdir(parents=True)
    rows = [
        {
            "level": level, "volume_ml": 40.0 + n + k % 5, "next_mm": 30.0 + 0.3 * k,
            "core_hu": 150.0, "findings": [],
        }
        for n, level in enumerate(("T12", "L1", "L2"))
    ]  # fmt: skip
    if name == "sub-07":
        rows[1]["volume_ml"] = 99.0
    severity = "review" if status == "ok_needs_review" else "info"
    finding = {"code": "gap", "severity": severity, "message": f"Message of {name}."}
    (folder / "findings.json").write_text(json.dumps({"vertebrae": rows, "findings": [finding]}))
    (folder / "report.html").write_text("<!doctype html><title>case</title>")
    seconds = {"quality_report": StageOutcome(StageState.DONE, seconds=60.0 - k)}
    seal(CaseFolder(root / name, name), status=status, stages=seconds)


@pytest.fixture
def results(tmp_path):
    root = tmp_path / "my results"
    for k in range(1, 11):
        put_result(root, f"sub-{k:02d}", "ok_needs_review" if k in (3, 5) else "ok", k)
    (root / "bad").mkdir()
    failed = {"status": "failed_preparation_unreadable", "message": "preparation: <b>truncated</b>"}
    seal(CaseFolder(root / "bad", "bad"), **failed)
    (root / ".payerseg" / "runs" / tmp_path.name).mkdir(parents=True)
    assert run_guarded(payerseg, ["report", str(root)]) == 0
    return root


@pytest.fixture
def page(browser, results):
    opened = browser.open(results / "report.html")
    yield opened
    assert opened.troubles() == []
    opened.close()


def test_the_urgent_come_first_and_columns_sort(page):
    assert page.run(SHOWN)[:3] == ["bad", "sub-03", "sub-05"]
    page.click("#table th:nth-child(2)")
    assert page.run(SHOWN) == ["bad", *(f"sub-{k:02d}" for k in range(1, 11))]
    page.click("#table th:nth-child(2)")
    assert page.run(SHOWN)[0] == "sub-10"
    page.click("#table th:nth-child(6)")
    assert page.run(SHOWN)[:2] == ["bad", "sub-10"]


def test_filters(page):
    page.run("document.getElementById('search').focus()")
    page.type("message 03")
    assert page.run(SHOWN) == ["sub-03"]
    page.run(PUT.format("search", ""))
    page.run(PUT.format("kind", "review"))
    assert page.run(SHOWN) == ["sub-03", "sub-05"]
    assert page.run("document.getElementById('shown').textContent") == "2 of 11"


def test_foreign_text_stays_text(page):
    page.run("choose('bad')")
    assert "<b>truncated</b>" in page.run("document.querySelector('.words').textContent")
    assert page.run("document.querySelectorAll('.words b').length") == 0


def test_outliers_are_ringed_and_lead_to_their_case(page):
    assert page.run("document.querySelectorAll('#charts circle.out').length") == 1
    page.run(
        "document.querySelector('#charts circle.out').dispatchEvent(new MouseEvent('click', {bubbles: true}))"
    )
    assert page.run(CURRENT) == "sub-07"
    assert "99.0" in page.run("document.querySelector('.words').textContent")


def rate_three(page):
    page.press("p")
    page.press("f")
    page.press("c")
    page.type("mask <leaks>")
    page.press("Escape")
    page.press("u")


def ratings_in(page):
    return page.run(
        "Object.fromEntries(Object.entries(ratings).map(([k, r]) => [k, [r.rating, r.comment]]))"
    )


EXPECTED = {
    "bad": ["pass", ""], "sub-03": ["fail", ""], "sub-05": ["unsure", "mask <leaks>"],
}  # fmt: skip


def test_rating_by_keyboard_survives_a_reload(page):
    rate_three(page)
    assert ratings_in(page) == EXPECTED
    assert page.run("document.getElementById('progress').textContent") == "3 of 11 rated"
    page.reload()
    assert ratings_in(page) == EXPECTED
    assert page.run("document.getElementById('progress').textContent") == "3 of 11 rated"
    assert (
        page.run("document.querySelector('#table tr[data-case=sub-05] .comment').textContent")
        == "mask <leaks>"
    )
    page.run(PUT.format("rated", "unrated"))
    assert len(page.run(SHOWN)) == 8


def test_ratings_survive_the_browser(browser, results, profile, tmp_path):
    other = tmp_path / "profile"
    shutil.copytree(profile, other, ignore=shutil.ignore_patterns("Singleton*"))
    for attempt in range(2):
        fresh = Browser(find_chromium(), other)
        opened = fresh.open(results / "report.html")
        if attempt == 0:
            rate_three(opened)
        assert ratings_in(opened) == EXPECTED
        fresh.close()


def test_a_saved_file_is_read_by_the_command_and_by_another_page(browser, page, results, tmp_path):
    rate_three(page)
    page.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    page.click("#save")
    saved = tmp_path / "ratings.json"
    page.wait("!document.querySelector('#save.changed')")
    end = time.monotonic() + 20
    while not saved.is_file() and time.monotonic() < end:
        time.sleep(0.05)
    found = read_ratings(saved)
    assert {case: [r.rating, r.comment] for case, r in found.items()} == EXPECTED
    page.run("localStorage.clear()")
    page.reload()
    assert ratings_in(page) == {}
    document = page.call("DOM.getDocument")["root"]["nodeId"]
    node = page.call("DOM.querySelector", nodeId=document, selector="#file")["nodeId"]
    page.call("DOM.setFileInputFiles", nodeId=node, files=[str(saved)])
    page.wait("Object.keys(ratings).length === 3", 10)
    assert ratings_in(page) == EXPECTED
    page.run("localStorage.clear()")
    assert run_guarded(payerseg, ["report", str(results), "--ratings", str(saved)]) == 0
    page.reload()
    assert ratings_in(page) == EXPECTED
