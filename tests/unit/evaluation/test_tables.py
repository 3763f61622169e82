"""Tables, figures, intervals and comparisons of scores made by hand."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from payerseg.domain.landmarks import Landmark, Landmarks
from payerseg.domain.spine_box import SpineBox
from payerseg.domain.vertebra import Vertebra
from payerseg.errors import GridMismatch
from payerseg.evaluation.case_scores import ScoringRules, score_absent, score_case
from payerseg.evaluation.evaluation_report import (
    as_html,
    as_markdown,
    figure_rows,
    summarize,
    what_is_wrong,
    write_evaluation,
)
from payerseg.evaluation.predictions import Prediction
from payerseg.evaluation.tables import (
    compare,
    figures,
    ratio_interval,
    scan_table,
    summed_by,
    vertebra_table,
)
from payerseg.evaluation.truth import Truth

FAST = ScoringRules(surfaces=False)


def column(names, off_mm=0.0):
    return Landmarks(
        Landmark(Vertebra[name], (off_mm, 0.0, -30.0 * k)) for k, name in enumerate(names)
    )


def to_the_left(mm):
    return lambda points: points + np.array([mm, 0.0, 0.0])


@pytest.fixture
def cases(bodies):
    """Right, shifted and flagged, one missed in silence, no spine, no result."""
    labels, marks = bodies
    truth = Truth("right", marks, labels)
    right = Prediction("right", marks.moved(to_the_left(1.0)), labels, needs_review=False)
    names = ["T11", "T12", "L1", "L2"]
    column_truth = Truth("x", column(names))
    shifted = Prediction("x", column(["T12", "L1", "L2", "L3"]), needs_review=True)
    missed = Prediction("x", column(names[:3], 2.0), needs_review=False)
    nothing = Truth("empty", Landmarks())
    return [
        score_case(right, truth, FAST, "whole"),
        score_case(shifted, replace(column_truth, case_id="shifted"), FAST, "whole"),
        score_case(missed, replace(column_truth, case_id="missed"), FAST, "slab"),
        score_case(Prediction("empty", Landmarks(), status="no_spine"), nothing, FAST, "slab"),
        score_absent(replace(column_truth, case_id="absent"), FAST, "slab"),
    ]


def test_figures_by_group(cases):
    whole, slab, everything = figures(cases, draws=50)
    assert (whole.group, slab.group, everything.group) == ("whole", "slab", "all")
    assert (whole.scans, whole.vertebrae, whole.all_right, whole.shifted) == (2, 7, 1, 1)
    assert whole.id_rate.value == pytest.approx(3 / 7)
    assert (whole.silently_wrong, whole.wrong_flagged) == (0, 1)
    assert (slab.missed, slab.silently_wrong) == (1 + 4, 2)
    assert (slab.no_spine_scans, slab.no_spine_right) == (1, 1)
    assert everything.distance_mm.value == pytest.approx((3 * 1 + 3 * 2) / 6)
    assert whole.dice.value == 1.0
    assert slab.dice is None


def test_invented_vertebra_in_a_scan_without_spine_counts(cases):
    invented = score_case(Prediction("e", column(["L1"])), Truth("e", Landmarks()), FAST)
    (one,) = figures([invented], draws=10)
    assert (one.extra, one.no_spine_scans, one.no_spine_right, one.id_rate) == (1, 1, 0, None)


def test_thick_slices_are_apart(bodies):
    labels, marks = bodies
    thick = replace(labels.grid, spacing_mm=(1.0, 1.0, 5.0))
    scores = [
        score_case(Prediction("a", marks, scan_grid=thick), Truth("a", marks), FAST),
        score_case(Prediction("b", marks, scan_grid=labels.grid), Truth("b", marks), FAST),
    ]
    (one,) = figures(scores, draws=10)
    assert one.distance_mm.value == one.distance_thick_mm.value == 0


def test_box(bodies):
    marks = bodies[1]
    box = SpineBox((-50, -50, 50), (50, 50, 200))
    score = score_case(Prediction("a", marks, box=box), Truth("a", marks), FAST)
    assert score.n_in_box == 2
    assert figures([score], draws=10)[0].outside_box == 1


def test_tables(cases):
    vertebrae = vertebra_table(cases)
    assert len(vertebrae) == 3 + (4 + 1) + 4 + 4
    shifted = vertebrae[vertebrae["case"] == "shifted"].set_index("vertebra")
    assert shifted.loc["L1", "lies_at"] == "T12"
    assert shifted.loc["L3", "outcome"] == "extra"
    levels = summed_by(vertebrae, "vertebra")
    assert list(levels["vertebra"]) == ["T11", "T12", "L1", "L2", "L3"]
    assert levels.set_index("vertebra").loc["L2", "identified"] == 1
    regions = summed_by(vertebrae, "region").set_index("region")
    assert list(regions.index) == ["thoracic", "lumbar"]
    scans = scan_table(cases).set_index("case")
    assert scans.loc["shifted", "shift_levels"] == 1
    assert bool(scans.loc["missed", "silently_wrong"])
    assert scans.loc["absent", "status"] == "no_result"


def test_missed_mask_is_dice_zero(bodies):
    labels, marks = bodies
    blank = labels.with_array(np.where(labels.array == 21, 0, labels.array))
    truth = Truth("a", marks, labels)
    score = score_case(Prediction("a", marks, blank), truth, FAST)
    assert [m.dice for m in score.masks] == [1, 0, 1]
    failed = score_case(Prediction("a", Landmarks()), truth, FAST)
    assert [m.dice for m in failed.masks] == [0, 0, 0]


def test_landmarks_alone_are_not_punished_for_masks(bodies):
    labels, marks = bodies
    assert score_case(Prediction("a", marks), Truth("a", marks, labels), FAST).masks == ()


def test_unmarked_masks_are_not_scored(bodies):
    labels, marks = bodies
    whole = Landmarks(mark for vertebra, mark in marks.items() if vertebra is not Vertebra.L3)
    truth = Truth("a", whole, labels, frozenset({Vertebra.L3}))
    score = score_case(Prediction("a", marks, labels), truth, FAST)
    assert [m.label for m in score.masks] == [20, 21]


def test_other_grid_is_refused_or_resampled(bodies):
    labels, marks = bodies
    every_second = labels.array[::2, ::2, ::2]
    grid = replace(
        labels.grid,
        shape=every_second.shape,
        spacing_mm=tuple(2 * s for s in labels.grid.spacing_mm),
    )
    coarse = type(labels)(every_second, grid)
    prediction, truth = Prediction("a", marks, coarse), Truth("a", marks, labels)
    with pytest.raises(GridMismatch, match="--resample"):
        score_case(prediction, truth, FAST)
    score = score_case(prediction, truth, replace(FAST, resample=True))
    assert all(m.dice > 0.85 for m in score.masks)


def test_interval_is_reproducible_and_holds_the_value():
    hits, total = np.array([9, 10, 4, 10, 7]), np.array([10, 10, 10, 10, 10])
    one, other = ratio_interval(hits, total, 500, 3), ratio_interval(hits, total, 500, 3)
    assert one == other
    assert one.low < one.value == 0.8 < one.high
    single = ratio_interval(np.array([3]), np.array([4]))
    assert (single.low, single.value, single.high) == (0.75,) * 3
    assert ratio_interval(np.array([0]), np.array([0])) is None


def test_interval_covers_the_true_mean():
    """95 % intervals of 30 scans hold the mean in most of 60 trials."""
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(60):
        sums = rng.normal(5, 2, 30)
        interval = ratio_interval(sums, np.ones(30), 300)
        hits += interval.low <= 5 <= interval.high
    assert hits >= 50


def test_comparison_is_paired(bodies):
    marks = bodies[1]
    truths = [Truth(str(k), marks) for k in range(6)]
    rng = np.random.default_rng(1)
    first, second = [], []
    for truth in truths:
        hard = rng.uniform(1, 9)  # scans differ far more than the methods do
        for results, off in ((first, hard), (second, hard - 0.5)):
            moved = marks.moved(to_the_left(off))
            results.append(score_case(Prediction(truth.case_id, moved), truth, FAST))
    found = compare(("a", first), ("b", second[1:]), draws=200)
    assert found.cases == 5
    by_score = {d.score: d for d in found.differences}
    distance = by_score["distance_mm"]
    assert distance.difference.value == pytest.approx(-0.5)
    assert distance.clear
    assert (distance.better, distance.worse, distance.n) == (15, 0, 15)
    assert by_score["identified"].difference.value == 0
    assert not by_score["identified"].clear
    assert "dice" not in by_score
    assert found.changed.empty


def test_comparison_lists_what_changed():
    truth = Truth("x", column(["L1", "L2"]))
    first = [score_case(Prediction("x", column(["L1", "L2"])), truth, FAST)]
    second = [score_case(Prediction("x", column(["L1"])), truth, FAST)]
    changed = compare(("a", first), ("b", second), draws=10).changed
    assert changed.to_dict("records") == [
        {"case": "x", "vertebra": "L2", "outcome_1": "identified", "outcome_2": "missed"}
    ]


def stating(named, *level_set, probability=0.5, truth=("T12", "L1"), **more):
    said = Prediction("x", column(named), level_set=level_set, level_probability=probability)
    return score_case(said, Truth("x", column(truth), **more), FAST)


def test_the_true_names_may_be_among_the_stated():
    shifted, right = ("L1", "L2"), ("T12", "L1")
    assert stating(shifted, shifted, right).in_set
    assert stating(right, right).in_set
    assert not stating(shifted, shifted, ("T11", "T12")).in_set
    assert not stating(shifted, shifted, ("T12", "L1", "L2")).in_set  # of three vertebrae
    assert stating(shifted).in_set is None
    cut = {"unmarked": frozenset({Vertebra.L2})}  # visible, not asked for
    longer = ("L1", "L2", "L3"), ("T12", "L1", "L2")
    assert stating(longer[0], *longer, **cut).in_set
    assert not stating(longer[0], *longer).in_set


def test_figures_of_what_was_stated():
    shifted, right = ("L1", "L2"), ("T12", "L1")
    scores = [
        stating(right, right, probability=0.9),
        stating(right, right, probability=0.6),
        stating(shifted, shifted, right, probability=0.6),
        stating(shifted, shifted, probability=0.7),
        stating(shifted, probability=0.5),
    ]
    (one,) = figures(scores, draws=10)
    assert (one.stated, one.in_set) == (4, 3)
    # 0.9 beats 0.6, 0.7 and 0.5; 0.6 ties, loses and wins
    assert one.probability_auc == pytest.approx((3 + 1.5) / 6)
    (one,) = figures(scores[:2], draws=10)
    assert one.probability_auc is None


def test_many_groups_are_listed_downwards(cases):
    many = [replace(case, group=str(k)) for k, case in enumerate(cases)]
    rows = figure_rows(summarize("r", many, {}, 10, 0).figures)
    assert [row[0] for row in rows] == ["", "0", "1", "2", "3", "4", "all"]
    assert rows[0][1] == "scans (vertebrae)"
    few = figure_rows(summarize("r", cases, {}, 10, 0).figures)
    assert few[0] == ["", "whole", "slab", "all"]
    assert few[1][0] == "scans (vertebrae)"


def test_words(cases):
    said = {case.case_id: what_is_wrong(case) for case in cases}
    assert said["right"] == ""
    assert said["shifted"].startswith("T11-L2 named +1 levels")
    assert "not flagged" not in said["shifted"]
    assert said["missed"] == "missed: L2; not flagged"


def test_written_files(cases, tmp_path):
    found = summarize("results & <co>", cases, {"z": "not in the results"}, 50, 0)
    comparison = compare(("a", cases), ("b", cases), draws=20)
    paths = write_evaluation(replace(found, comparison=comparison), tmp_path / "out")
    names = [p.name for p in paths]
    assert names[-1] == "report.html"
    assert {"vertebrae.csv", "scans.csv", "levels.csv", "regions.csv", "groups.csv"} <= set(names)
    data = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert data["figures"][0]["group"] == "whole"
    assert data["comparison"]["cases"] == 5
    table = pd.read_csv(tmp_path / "out" / "groups.csv").set_index("group")
    assert table.loc["whole", "id_rate"] == pytest.approx(3 / 7, rel=1e-5)


def test_page_needs_nothing_else(cases):
    page = as_html(summarize("results & <co>", cases, {}, 50, 0))
    assert "results &amp; &lt;co&gt;" in page
    assert page.count("<svg") == 3
    assert "L2: 1 of 4" in page
    for outside in ("http:", "https:", "<script", "<link", "<img"):
        assert outside not in page.replace("http://www.w3.org/2000/svg", "")


def test_markdown(cases):
    text = as_markdown(summarize("r", cases, {"z": "not in the results"}, 50, 0))
    assert "| identified within 20 mm | 42.9 % [" in text
    assert "| z | not in the results |" in text
    assert "| L2 | 1/4 | 0 |" in text
