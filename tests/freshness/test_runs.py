"""Freshness as a person meets it: the same command again, in many situations."""

import json
import shutil

import pytest

from payerseg.driver.lock import CaseLocks
from payerseg.driver.messages import Notice, StageDecided
from payerseg.driver.status import decide_all
from payerseg.errors import UsageError
from payerseg.results.manifest import StageManifest

FRESH = ["fresh"] * 3


def reasons(bench, stage):
    decided = [m for m in bench.messages if isinstance(m, StageDecided) and m.stage == stage]
    return decided[0].verdicts["a"].reasons


def test_the_second_run_does_nothing(bench):
    bench.run()
    before = {path: path.stat().st_mtime_ns for path in bench.output.glob("a/step*/*")}
    summary = bench.run()
    assert bench.states(summary) == FRESH
    assert summary.processes == ()
    assert {p: p.stat().st_mtime_ns for p in bench.output.glob("a/step*/*")} == before


def test_early_cut_off(bench):
    bench.build()
    manifest = bench.output / "a/step0_preparation/manifest.json"
    manifest.unlink()  # preparation runs again and comes to the same text
    assert bench.states(bench.run()) == ["done", "fresh", "fresh"]


def test_a_changed_scan_runs_everything(bench):
    bench.build()
    bench.scans(a="another text")
    assert bench.states(bench.run()) == ["done"] * 3
    assert bench.path(bench.pipeline[2].writes[0]).read_text() == "17"


def test_an_edit_is_respected_and_carried_on(bench):
    bench.build()
    derived = bench.path(bench.pipeline[1].writes[0])
    derived.write_text("by hand")
    summary = bench.run()
    assert bench.states(summary) == ["fresh", "edited", "done"]
    assert derived.read_text() == "by hand"
    assert bench.path(bench.pipeline[2].writes[0]).read_text() == "7"
    assert bench.states(bench.run()) == ["fresh", "edited", "fresh"]


def test_a_part_of_the_pipeline_is_told_as_a_part(bench):
    (case,) = bench.run(to_stage="spine_localization").cases
    expected = "done up to spine_localization, later stages were not asked for"
    assert (case.status, case.message) == ("done_to_spine_localization", expected)
    assert case.good
    (case,) = bench.run().cases
    assert (case.status, case.message) == ("ok", "")
    (case,) = bench.run(to_stage="spine_localization").cases
    assert case.message == "", "the later stages are still fresh"


def test_a_part_that_needs_a_look_says_both(bench):
    bench.scans(a="review")
    (case,) = bench.run(to_stage="spine_localization").cases
    assert case.status == "done_to_spine_localization_needs_review"
    assert "the level is uncertain" in case.message
    assert case.good


def test_a_scan_named_like_a_table_takes_no_tables_place(bench):
    bench.scans(**{"landmarks.csv": "x", "FLAT": "y"})
    summary = bench.run()
    refused = "failed_preparation_usage"
    assert bench.statuses(summary) == {"FLAT": refused, "a": "ok", "landmarks.csv": refused}
    assert summary.exit_code == 3
    assert (bench.output / "landmarks.csv").is_file()
    assert not (bench.output / "FLAT").exists()


def test_doubts_from_before_an_edit_are_not_repeated(bench):
    bench.scans(a="review")
    bench.build()
    bench.path(bench.pipeline[1].writes[0]).write_text("by hand")
    (case,) = bench.run().cases
    assert (case.status, case.message) == ("ok", "")
    edited = case.stages["spine_localization"]
    assert not edited.needs_review
    assert edited.reasons == ("a_derived.txt was edited by a person",)


def test_force_overwrites_an_edit_but_keeps_a_copy(bench):
    bench.build()
    derived = bench.path(bench.pipeline[1].writes[0])
    derived.write_text("by hand")
    bench.run(force=True, from_stage="spine_localization", to_stage="spine_localization")
    assert derived.read_text() == "ONE 0.3\n"
    assert reasons(bench, "spine_localization")[0] == "forced"
    (copy,) = derived.parent.glob("a_derived.by_hand-*.txt")
    assert copy.read_text() == "by hand"


def test_an_upstream_change_overrides_an_edit_says_so_and_keeps_a_copy(bench):
    bench.build()
    derived = bench.path(bench.pipeline[1].writes[0])
    derived.write_text("by hand")
    bench.scans(a="new")
    bench.run()
    said = reasons(bench, "spine_localization")
    assert said[0].startswith("text changed")
    (copy,) = derived.parent.glob("a_derived.by_hand-*.txt")
    assert copy.name in said[1]
    assert copy.read_text() == "by hand"
    assert derived.read_text() == "NEW 0.3\n"


def test_force_runs_the_stages_asked_for_only(bench):
    bench.build()
    summary = bench.run(force=True, from_stage="spine_localization", to_stage="spine_localization")
    assert bench.states(summary) == ["fresh", "done", "fresh"], "the last is still true"
    assert bench.statuses(summary) == {"a": "ok"}


def test_what_is_stale_after_the_last_stage_asked_for_is_left_out(bench):
    bench.build()
    bench.scans(a="other")
    summary = bench.run(to_stage="spine_localization")
    assert bench.states(summary) == ["done", "done"]
    assert summary.exit_code == 0


def test_from_stage_uses_earlier_results_even_if_stale_and_says_so(bench):
    bench.build()
    bench.scans(a="changed")
    summary = bench.run(from_stage="spine_localization")
    assert bench.states(summary) == FRESH
    notices = [m.text for m in bench.messages if isinstance(m, Notice)]
    assert any("used as it is, though stale: scan_file changed" in text for text in notices)


def test_from_stage_without_earlier_results_is_blocked(bench):
    summary = bench.run(from_stage="spine_localization")
    assert bench.states(summary) == ["blocked"] * 3
    assert bench.statuses(summary) == {"a": "blocked"}
    assert summary.exit_code == 3
    assert "no whole result" in summary.cases[0].message


def test_a_new_no_spine_takes_later_results_away(bench):
    bench.build()
    bench.path(bench.pipeline[1].writes[0]).write_text("by hand")
    bench.scans(a="empty")
    assert bench.statuses(bench.run()) == {"a": "no_spine"}
    left = sorted(path.name for path in bench.output.glob("a/step[12]*/*"))
    assert len(left) == 1
    assert left[0].startswith("a_derived.by_hand-"), "a person's work is never lost"


def test_a_dry_run_tells_and_does_nothing(bench):
    summary = bench.run(dry_run=True)
    assert bench.states(summary) == ["not_run"] * 3
    assert summary.exit_code == 0
    assert not bench.output.exists()
    assert reasons(bench, "preparation") == ("no result yet",)


# --- pruning -------------------------------------------------------------------------------------


def test_pruning_makes_nothing_stale(bench):
    text = bench.path(bench.pipeline[0].writes[0])
    bench.run(driver={"keep": "results"})
    assert not text.exists()
    assert StageManifest.read(text.parent / "manifest.json").pruned == ("text",)
    assert bench.states(bench.run(driver={"keep": "results"})) == FRESH
    assert bench.states(bench.run(driver={"keep": "all"})) == FRESH


def test_what_was_pruned_is_made_again_when_it_is_needed(bench):
    bench.run(driver={"keep": "results"})
    expected = bench.artifacts()
    bench.path(bench.pipeline[1].writes[0]).unlink()
    summary = bench.run(driver={"keep": "results"})
    assert bench.states(summary) == ["done", "done", "fresh"]
    assert reasons(bench, "preparation") == ("text was pruned and spine_localization needs it",)
    assert bench.artifacts() == expected


def test_a_later_stage_alone_gets_its_pruned_input_back(bench):
    bench.run(driver={"keep": "results"})
    changes = {"from_stage": "spine_localization", "to_stage": "spine_localization"}
    summary = bench.run(driver={"keep": "results"}, force=True, inputs=(), **changes)
    assert bench.states(summary) == ["done", "done", "fresh"]


def test_what_nobody_needs_is_not_made_again(bench):
    bench.run(driver={"keep": "results"})
    bench.path(bench.pipeline[2].writes[0]).unlink()
    assert bench.states(bench.run(driver={"keep": "results"})) == ["fresh", "fresh", "done"]


def test_an_interrupted_pruning_is_completed(bench):
    bench.build()
    text = bench.path(bench.pipeline[0].writes[0])
    path = text.parent / "manifest.json"
    StageManifest.read(path).with_pruned(("text",)).write(path)
    assert bench.states(bench.run(driver={"keep": "results"})) == FRESH
    assert not text.exists()


def test_an_incomplete_case_is_not_pruned(bench):
    bench.run(driver={"keep": "results"}, to_stage="spine_localization")
    assert bench.path(bench.pipeline[0].writes[0]).exists()


# --- status --------------------------------------------------------------------------------------


def test_status_tells_without_running(bench):
    bench.scans(b="bad", c="empty")
    bench.run()
    bench.path(bench.pipeline[0].writes[0]).write_text("other")
    before = bench.artifacts()
    a, b, c = decide_all(bench.output, bench.settings(inputs=()))
    assert bench.artifacts() == before
    assert not a.fresh
    assert a.verdicts["preparation"].reasons == ("text changed on disk after it was written",)
    assert "unless preparation, which is stale" in a.verdicts["vertebrae_localization"].reasons[0]
    assert b.status == "failed_preparation_unreadable"
    assert "the file says that it is bad" in b.message
    assert c.fresh
    assert c.verdicts["vertebrae_localization"].reasons == ("not needed: the case has no spine",)


def test_results_of_another_machine_are_judged_and_used(bench, tmp_path):
    bench.run()
    moved = tmp_path / "elsewhere" / "out"
    shutil.copytree(bench.output, moved)
    shutil.rmtree(bench.inputs)
    (report,) = decide_all(moved, bench.settings(output=moved, inputs=()))
    assert report.fresh
    summary = bench.run(output=moved, inputs=())
    assert bench.states(summary) == FRESH


def test_the_case_remembers_its_scan(bench):
    bench.run()
    status = json.loads((bench.output / "a" / "status.json").read_text())
    assert status["image"] == str(bench.inputs / "a.nii")
    bench.scans(a="changed")
    assert bench.states(bench.run(inputs=())) == ["done"] * 3


@pytest.mark.parametrize("name", ["summary.csv", "a/status.json"])
def test_what_was_promised_and_cannot_be_written_is_told_by_the_exit_code(bench, name):
    bench.build()
    (bench.output / name).mkdir(parents=True)
    summary = bench.run()
    assert bench.states(summary) == FRESH
    assert summary.exit_code == 3
    assert any("could not write" in text and name in text for text in summary.notices)


def test_a_case_in_other_hands_is_left_alone_and_the_others_are_done(bench):
    bench.scans(b="two")
    locks = CaseLocks(bench.output / ".payerseg", "other")
    locks.acquire(["a"])
    try:
        summary = bench.run(to_stage="preparation")
        assert bench.statuses(summary) == {"a": "not_run", "b": "done_to_preparation"}
        assert "in the hands of run other" in summary.cases[0].message
        assert summary.exit_code == 3
        assert not (bench.output / "a").exists()
        with pytest.raises(UsageError, match="in the hands of run other"):
            bench.run(only_cases=("a",))
    finally:
        locks.release()


def test_one_stage_again_runs_it_and_of_the_later_ones_what_is_stale(bench):
    bench.build()
    summary = bench.run(rerun="spine_localization", from_stage="spine_localization")
    assert bench.states(summary) == ["fresh", "done", "fresh"]
    assert reasons(bench, "spine_localization") == ("forced",)


def test_a_fresh_case_does_not_wait_for_the_disk(bench, monkeypatch):
    """Thousands of them would wait long; a case that ran waits for its status as well."""
    bench.build()
    waits = []
    monkeypatch.setattr("payerseg.atomic.sync_file", waits.append)
    bench.run()
    assert [path for path in waits if path.parent.name == "a"] == []
    bench.scans(a="other")
    bench.run()
    assert [path.parent.name for path in waits].count("a") == 1


def test_a_status_is_written_when_something_changed(bench):
    bench.scans(b="two")
    bench.run()
    bench.run()  # "done" becomes "fresh"
    status = {name: bench.output / name / "status.json" for name in "ab"}
    before = {name: path.stat().st_mtime_ns for name, path in status.items()}
    bench.scans(b="other")
    bench.run()
    assert status["a"].stat().st_mtime_ns == before["a"]
    assert status["b"].stat().st_mtime_ns != before["b"]
    assert '"done"' in status["b"].read_text()


def test_a_cohort_in_other_hands_is_told_in_one_line(bench):
    bench.scans(b="two", c="three")
    locks = CaseLocks(bench.output / ".payerseg", "other")
    locks.acquire(["a", "b", "c"])
    with pytest.raises(UsageError, match=r"case 'a' is in the hands of run other.*likewise 2 more"):
        bench.run()
    locks.release()
