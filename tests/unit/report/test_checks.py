"""Right results stay silent; every kind of wrong one is found and named."""

from dataclasses import replace

import numpy as np
import pytest

from payerseg.domain.vertebra import Vertebra
from payerseg.imaging.scan_record import Note
from payerseg.report.case_facts import SEVERITY_ORDER, TITLES, Severity
from payerseg.report.checks import check_case
from payerseg.report.mask_checks import TYPICAL_ML, mask_facts

T10, T11, T12, L1, L2 = (Vertebra[name] for name in ("T10", "T11", "T12", "L1", "L2"))


def found(facts):
    return check_case(facts, mask_facts(facts.ct, facts.labels, facts.landmarks))


def codes(facts, severity=Severity.REVIEW):
    return {finding.code for finding in found(facts) if finding.severity is severity}


def at(facts, vertebra):
    return np.array(facts.landmarks[vertebra].position_mm)


def test_a_right_result_asks_for_nobody(make_facts, synthetic_spine, any_grid):
    assert codes(make_facts(synthetic_spine(any_grid))) == set()


def test_findings_are_in_order_and_have_titles(facts, with_marks):
    broken = with_marks(facts, {T12: None, L1: np.add(at(facts, L1), (0, 0, 400))})
    findings = found(broken)
    places = [SEVERITY_ORDER.index(finding.severity) for finding in findings]
    assert places == sorted(places)
    assert {finding.code for finding in findings} <= set(TITLES)
    assert all(finding.message.endswith((".", "?")) for finding in findings)


def test_what_the_level_rests_on_is_told_and_asks_for_nobody(facts):
    told = {"anchors": ["the sacrum follows L5"], "remarks": ["large"]}
    own = [
        f for f in found(replace(facts, decision={**facts.decision, **told})) if f.code == "level"
    ]
    assert {finding.severity for finding in own} == {Severity.INFO}
    assert [f.message for f in own] == ["The level is anchored: the sacrum follows L5.", "Large."]


def test_a_gap(facts, with_marks):
    broken = with_marks(facts, {T12: None})
    (finding,) = [f for f in found(broken) if f.code == "gap"]
    assert finding.message == "T12 is missing between T11 and L1."
    assert finding.levels == ("T11", "L1")
    assert finding.severity is Severity.REVIEW


def test_t13_and_l6_are_not_missed(facts, with_marks):
    assert "gap" not in codes(with_marks(facts, {L2: None}))


def test_a_doubled_and_a_skipped_level(facts, with_marks):
    step = at(facts, T11) - at(facts, T10)
    broken = with_marks(facts, {T11: at(facts, T10) + 0.3 * step})
    assert {"doubled_level", "wide_spacing"} <= codes(broken)


def test_size_of_the_person_does_not_matter_for_distances(make_facts, synthetic_spine, with_marks):
    facts = make_facts(synthetic_spine())
    small = with_marks(facts, {v: 0.6 * at(facts, v) for v in facts.landmarks})
    assert not {"doubled_level", "wide_spacing"} & codes(small)


def test_centres_out_of_order_and_outside(facts, with_marks):
    broken = with_marks(
        facts, {T11: np.add(at(facts, T10), (0, 0, 5)), L2: at(facts, L2) - (0, 0, 500)}
    )
    assert {"order", "outside_scan"} <= codes(broken)


def test_an_empty_mask_and_a_mask_without_centre(facts, with_labels, with_marks):
    broken = with_labels(facts, lambda a: np.place(a, a == L1.verse_label, 0))
    assert [f.levels for f in found(broken) if f.code == "empty_mask"] == [("L1",)]
    orphan = with_marks(facts, {L2: None})
    assert "off_landmark" in codes(orphan)


def test_a_mask_beside_its_centre(facts, with_marks):
    broken = with_marks(facts, {L1: np.add(at(facts, L1), (26, 0, 0))})
    (finding,) = [f for f in found(broken) if f.code == "off_landmark"]
    assert finding.levels == ("L1",)
    assert "9 mm" in finding.message  # 26 mm from the centre of an ellipsoid of 17 mm


def test_a_mask_over_another_centre_leaks(facts, with_labels):
    broken = with_labels(facts, lambda a: np.place(a, a == L1.verse_label, T12.verse_label))
    (finding,) = [f for f in found(broken) if f.code == "leak"]
    assert finding.levels == ("T12", "L1")


def test_a_mask_in_the_air_leaks(facts, with_labels):
    def leak(array):
        array[40:50, 2:12, 2:12] = T12.verse_label  # outside the body

    assert {"leak", "fragments"} <= codes(with_labels(facts, leak))


def test_small_fragments_only_warn_and_specks_do_not(facts, with_labels):
    def speck(size):
        def change(array):
            z, y, x = np.argwhere(array == L1.verse_label).max(axis=0)
            array[z : z + size[0], y : y + size[1], x + 2 : x + 2 + size[2]] = L1.verse_label

        return with_labels(facts, change)

    assert "fragments" in codes(speck((4, 4, 5)), Severity.WARNING) | codes(speck((4, 4, 5)))
    assert not any(f.code == "fragments" for f in found(speck((2, 2, 2))))


def test_a_mask_that_runs_out_along_a_rib_is_asymmetric(facts, with_labels):
    def add_rib(array):
        z, y, x = np.argwhere(array == L1.verse_label).mean(axis=0).round().astype(int)
        array[z - 3 : z + 4, y - 4 : y + 5, x + 5 : x + 25] = L1.verse_label

    findings = [f for f in found(with_labels(facts, add_rib)) if f.code == "asymmetry"]
    assert [(f.levels, f.severity) for f in findings] == [(("L1",), Severity.WARNING)]


@pytest.mark.parametrize(
    ("factor", "severity"),
    [
        (0.5, Severity.REVIEW),
        (0.65, Severity.WARNING),
        (0.8, None),
        (1.3, None),
        (1.9, Severity.REVIEW),
    ],
)
def test_a_wrong_size_for_the_level(facts, factor, severity):
    masks = mask_facts(facts.ct, facts.labels, facts.landmarks)
    child = {v: replace(mask, volume_ml=0.7 * TYPICAL_ML[v.name]) for v, mask in masks.items()}
    child[T12] = replace(child[T12], volume_ml=factor * child[T12].volume_ml)
    sizes = {f.levels: f.severity for f in check_case(facts, child) if f.code == "size"}
    assert sizes == ({} if severity is None else {("T12",): severity})


def test_metal_is_named_and_asks_for_nobody(facts):
    array = facts.ct.array.copy()
    z, y, x = np.rint(facts.ct.grid.map_world_to_indices(at(facts, T11))[0]).astype(int)
    array[z - 2 : z + 2, y - 2 : y + 2, x - 2 : x + 2] = 3000
    metal = [f for f in found(replace(facts, ct=facts.ct.with_array(array))) if f.code == "metal"]
    assert [(f.levels, f.severity) for f in metal] == [(("T11",), Severity.WARNING)]


def test_vertebrae_at_the_edge_are_facts(make_facts, synthetic_spine):
    facts = make_facts(synthetic_spine(first="T8", last="L4"))
    border = [f for f in found(facts) if f.code == "border"]
    assert len(border) == 1
    assert border[0].severity is Severity.INFO


def test_what_earlier_stages_said_is_passed_on(facts):
    reasons = ["the level is uncertain (probability 0.61)", "T12 is absent: L1 follows T11"]
    report = {
        "L1": {"problems": ["40% of the mask went to its neighbours"]},
        "L2": {"problems": []},
    }
    note = Note("slices", "slices are 5 mm apart")
    told = replace(
        facts,
        decision=facts.decision | {"reasons": reasons},
        mask_report=report,
        scan=replace(facts.scan, notes=(note,)),
    )
    messages = [finding.message for finding in found(told)]
    assert "The level is uncertain (probability 0.61)." in messages
    assert "T12 is absent: L1 follows T11." in messages
    assert "The segmentation says of L1: 40% of the mask went to its neighbours." in messages
    assert "Slices are 5 mm apart." in messages
    assert codes(told) == {"naming", "segmentation"}


def test_a_note_that_asks_for_a_look_is_a_review(facts):
    note = Note("slice_jump", "the picture jumps", review=True)
    told = replace(facts, scan=replace(facts.scan, notes=(note,)))
    assert codes(told) == {"scan"}


def test_many_unexplained_places_are_one_finding(facts):
    places = [
        f"a bright place at ({k}, 0, 0) mm, beside the spine, is unexplained" for k in range(9)
    ]
    told = replace(facts, decision=facts.decision | {"reasons": [places[0], "x", *places[1:]]})
    messages = [finding.message for finding in found(told) if finding.code == "naming"]
    assert messages == [
        "X.",
        "A bright place at (0, 0, 0) mm, beside the spine, is unexplained. So are 8 more.",
    ]


def test_edits_by_hand_are_told(facts, with_marks):
    edited = with_marks(facts, {L2: None, T12: np.add(at(facts, T12), (0, 3, 4))})
    edited = replace(edited, decision=facts.decision)
    (finding,) = [f for f in found(edited) if f.code == "edited"]
    assert finding.message == "A person edited landmarks.csv: T12 moved by 5.0 mm, L2 removed."
    assert finding.severity is Severity.INFO


def test_doubts_from_before_an_edit_are_not_repeated(facts, with_marks):
    doubted = facts.decision | {"reasons": ["the level is uncertain"], "needs_review": True}
    assert "naming" in codes(replace(facts, decision=doubted))
    edited = replace(with_marks(facts, {L2: None}), decision=doubted)
    assert "naming" not in codes(edited)
    (finding,) = [f for f in found(edited) if f.code == "edited"]
    assert finding.message.endswith("Doubts about the names before are not repeated.")
