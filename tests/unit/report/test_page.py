"""The case page: self-contained, every foreign text escaped, everything that was promised on it."""

import json
import re
from dataclasses import dataclass, replace

import pytest

from payerseg.config.schema import QualityReportConfig
from payerseg.domain.landmarks import Landmarks
from payerseg.domain.vertebra import Vertebra
from payerseg.report.case_report import build_report
from payerseg.report.page import render
from payerseg.results.manifest import StageManifest

EVIL = "<script>alert(1)</script>&\"'"


@dataclass(frozen=True)
class Row:
    level: str
    quantity: str
    value: float
    unit: str = ""
    note: str = ""


def embedded(page):
    return json.loads(re.search(r'id="facts">(.*?)</script>', page, re.DOTALL).group(1))


@pytest.fixture
def full(facts):
    """A case with everything that the page can tell."""
    other = {"labels": ["T9", "L1"], "probability": 0.21, "margin": 1.3, "change": f"T10 {EVIL}"}
    decision = facts.decision | {
        "level_probability": 0.79, "reasons": [f"unsure {EVIL}"], "alternatives": [other],
        "needs_review": True,
    }  # fmt: skip
    measured = (
        *(Row("L1", f"height_{part}", 24.4, "mm") for part in ("anterior", "middle", "posterior")),
        Row("L1", "core_hu_mean", 151.2, "HU"),
        Row("T11-L2", "cobb_coronal", 12.3, "deg", f"convex {EVIL}"),
    )
    manifest = StageManifest(
        "vertebrae_localization", 1, "k", weights="blake2b:71aa03c9e5b7d1f2", seconds=12.3,
        versions={"tensorflow": "2.21.0"},
    )  # fmt: skip
    scan = replace(facts.scan, file_name=EVIL, facts={"stored_type": EVIL})
    return replace(
        facts, case_id=EVIL, scan=scan, decision=decision, measured=measured, manifests=(manifest,)
    )


def test_everything_foreign_is_escaped(full):
    page = build_report(full, QualityReportConfig(viewer=False)).page
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert page.count("<script") == 2  # the data and the program


def test_a_page_asks_for_nothing_outside(full):
    page = build_report(full, QualityReportConfig()).page
    addresses = re.findall(r'(?:src|href)="([^"]{0,40})', page)
    assert all(address.startswith("data:") for address in addresses), addresses
    assert "default-src 'none'" in page
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", page)


def test_the_table_tells_the_numbers(full):
    page = build_report(full, QualityReportConfig(viewer=False)).page
    row = re.search(r'<tr data-level="L1".*?</tr>', page, re.DOTALL).group(0)
    assert "24.4 / 24.4 / 24.4" in row
    assert "<td>151</td>" in row
    for words in ("12.3°", "0.790", "0.210", "71aa03c9e5b7", "tensorflow 2.21.0", "12.3 s"):
        assert words in page, words


def test_after_an_edit_the_page_tells_of_the_person_not_of_old_doubts(full):
    kept = Landmarks(mark for v, mark in full.landmarks.items() if v is not Vertebra.L2)
    edited = replace(full, landmarks=kept)
    report = build_report(edited, QualityReportConfig(viewer=False))
    assert "A person edited landmarks.csv: L2 removed." in report.page
    for words in ("unsure", "Other ways to name", "0.790", "0.210"):
        assert words not in report.page, words
    assert {row["score"] for row in report.findings["vertebrae"]} == {None}


def test_the_record_says_what_the_page_says(full):
    report = build_report(full, QualityReportConfig(viewer=False))
    assert report.needs_review
    assert report.findings["needs_review"] is True
    assert report.reasons == (f"Unsure {EVIL}",)
    assert report.findings["counts"]["review"] == 1
    levels = [row["level"] for row in report.findings["vertebrae"]]
    assert levels == [v.name for v in full.landmarks]
    json.dumps(report.findings, allow_nan=False)


def test_a_right_case_is_ok(facts):
    report = build_report(facts, QualityReportConfig(viewer=False))
    assert not report.needs_review
    assert '<span class="chip ok">ok</span>' in report.page


def test_the_viewer_can_be_left_out(facts):
    with_viewer = build_report(facts, QualityReportConfig())
    without = build_report(facts, QualityReportConfig(viewer=False))
    assert embedded(without.page)["viewer"] is None
    assert "<canvas" not in without.page
    assert len(without.page) < len(with_viewer.page)
    assert embedded(with_viewer.page)["viewer"]["size"]


def test_one_vertebra_is_enough(facts, with_marks):
    single = with_marks(facts, {v: None for v in facts.landmarks if v is not Vertebra.T12})
    page = build_report(single, QualityReportConfig(viewer=False)).page
    assert embedded(page)["middle"] == "T12"


def test_embedded_json_cannot_end_its_script():
    page = render("cohort.html", {"title": "", "data": {"a": "</script><!--\u2028"}})
    assert page.count("</script>") == 2
    assert "\u2028" not in page
    assert embedded(page) == {"a": "</script><!--\u2028"}
