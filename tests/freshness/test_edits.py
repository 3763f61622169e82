"""What people edited: respected, taken over where the stage has a program for it, never lost."""

import pytest

from payerseg.driver.status import decide_all
from payerseg.results.manifest import StageManifest
from payerseg.results.status import read_status


@pytest.fixture
def editing(bench):
    """The bench with a second stage whose edits are taken over."""
    from fake_stages.fake_catalog import EDITED_PIPELINE

    bench.pipeline = EDITED_PIPELINE
    bench.run()
    return bench


def derived(bench):
    return bench.path(bench.pipeline[1].writes[0])


def manifest(bench):
    return StageManifest.read(derived(bench).with_name("manifest.json"))


def copies(bench):
    return sorted(derived(bench).parent.glob("*by_hand-*"))


def test_an_edit_is_taken_over_once(editing):
    derived(editing).write_text("by hand")
    (report,) = decide_all(editing.output, editing.settings(inputs=()))
    assert report.verdicts["spine_localization"].to_take_over
    assert editing.states(editing.run(dry_run=True)) == ["fresh", "edited", "not_run"]
    summary = editing.run()
    assert editing.states(summary) == ["fresh", "edited", "done"], summary.cases[0].message
    assert (summary.exit_code, derived(editing).read_text()) == (0, "by hand")
    assert manifest(editing).by_hand == ("derived",)
    assert manifest(editing).notes["taken_over"] == ["derived"]
    summary = editing.run()
    assert editing.states(summary) == ["fresh", "edited", "fresh"]
    assert summary.processes == ()


@pytest.mark.parametrize("taken_over", [True, False])
def test_work_of_a_person_is_replaced_by_force_only_and_a_copy_kept(editing, taken_over):
    derived(editing).write_text("by hand")
    if taken_over:
        editing.run()
    editing.scans(a="other")
    summary = editing.run()
    assert editing.states(summary) == ["done", "refused", "blocked"]
    assert summary.exit_code == 3
    (case,) = summary.cases
    assert (case.status, "--force replaces them and keeps a copy" in case.message) == ("ok", True)
    assert derived(editing).read_text() == "by hand"
    assert copies(editing) == []
    summary = editing.run(force=True)
    assert editing.statuses(summary) == {"a": "ok"}
    assert derived(editing).read_text() == "OTHER 0.3\n"
    assert [path.read_text() for path in copies(editing)] == ["by hand"]
    assert manifest(editing).by_hand == ()


def test_running_a_stage_again_keeps_a_persons_work(editing):
    derived(editing).write_text("by hand")
    summary = editing.run(rerun="spine_localization")
    assert editing.states(summary) == ["fresh", "edited", "done"]
    assert derived(editing).read_text() == "by hand"
    assert any("--force replaces them" in text for text in summary.notices)


def test_an_edit_that_cannot_be_taken_over_leaves_everything_as_it_was(editing):
    before = manifest(editing)
    derived(editing).write_text("nonsense")
    summary = editing.run()
    assert editing.states(summary) == ["fresh", "refused", "blocked"]
    assert summary.exit_code == 3
    (case,) = summary.cases
    assert case.status == "ok", "the word of before, with the refusal beside it"
    assert "the results of before the edit lie there" in case.message
    assert (manifest(editing), derived(editing).read_text()) == (before, "nonsense")
    assert read_status(editing.settings().case_folder("a")).status == "ok"
    derived(editing).write_text("sound")
    assert editing.states(editing.run()) == ["fresh", "edited", "done"]


@pytest.mark.parametrize(("trick", "kind"), [("segfault", "crashed"), ("bug", "bug")])
def test_a_crash_while_an_edit_is_taken_over_is_told_as_one(editing, trick, kind):
    before = manifest(editing)
    derived(editing).write_text(trick)
    summary = editing.run()
    assert editing.statuses(summary) == {"a": f"failed_spine_localization_{kind}"}
    assert (manifest(editing), derived(editing).read_text()) == (before, trick)
    derived(editing).write_text("sound")
    assert editing.states(editing.run()) == ["fresh", "edited", "done"]


@pytest.mark.parametrize("damage", ["missing", "truncated", "newer"])
def test_without_a_manifest_to_trust_an_edit_is_always_kept(bench, damage):
    bench.build()
    derived(bench).write_text("by hand")
    path = derived(bench).with_name("manifest.json")
    if damage == "missing":
        path.unlink()
    elif damage == "truncated":
        path.write_text(path.read_text()[:40])
    else:
        path.write_text(path.read_text().replace('"format": 1', '"format": 2'))
    assert bench.statuses(bench.run()) == {"a": "ok"}
    assert [copy.read_text() for copy in copies(bench)] == ["by hand"]
