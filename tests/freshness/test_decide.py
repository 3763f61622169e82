"""When a result is still true: every reason once, and what must not matter."""

import json
import os
import shutil
from dataclasses import replace

import pytest

from payerseg.driver.freshness import State, decide
from payerseg.driver.settings import StagePlan, plan_stages
from payerseg.results.case_folder import Case, CaseFolder
from payerseg.results.fingerprint import HashMemo

COPY, DERIVE, COUNT = range(3)


@pytest.fixture
def judge(bench):
    """Build case a, then return the function that judges a stage of it."""
    bench.build()

    def judge(stage, output=None, case=None, **changes):
        plan = replace(plan_stages(bench.settings(), HashMemo())[stage], **changes)
        folder = CaseFolder((output or bench.output) / "a", "a")
        return decide(case or Case("a", bench.inputs / "a.nii"), folder, plan, HashMemo())

    return judge


def artifact(bench, stage, number=0):
    return bench.path(bench.pipeline[stage].writes[number])


def manifest_path(bench, stage):
    return bench.output / "a" / bench.pipeline[stage].folder / "manifest.json"


def edit_manifest(bench, stage, **changes):
    path = manifest_path(bench, stage)
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize("stage", [COPY, DERIVE, COUNT])
def test_what_was_just_made_is_fresh(judge, stage):
    verdict = judge(stage)
    assert (verdict.state, verdict.reasons) == (State.FRESH, ())
    assert verdict.status == "done"


def test_without_a_manifest_there_is_no_result(bench, judge):
    manifest_path(bench, DERIVE).unlink()
    assert artifact(bench, DERIVE).exists()
    assert judge(DERIVE).reasons == ("no result yet",)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": 99}', '{"format": 1}'])
def test_a_damaged_manifest(bench, judge, content):
    manifest_path(bench, DERIVE).write_text(content)
    verdict = judge(DERIVE)
    assert verdict.stale
    assert "must run again" in verdict.reasons[0]


def test_another_version_of_the_stage(bench, judge):
    verdict = judge(DERIVE, spec=replace(bench.pipeline[DERIVE], version=7))
    assert verdict.reasons == ("made by spine_localization version 1, now version 7",)


def test_another_setting(bench, judge):
    config = plan_stages(bench.settings(), HashMemo())[DERIVE].config
    verdict = judge(DERIVE, config={**config, "threshold": 0.25})
    assert verdict.reasons == ("setting threshold 0.3 → 0.25",)


def test_nested_settings_are_named_in_full(bench, judge):
    edit_manifest(bench, COUNT, config={"graph": {"node_bias": 1.0}})
    config = {"graph": {"node_bias": 2.0}}
    assert judge(COUNT, config=config).reasons == ("setting graph.node_bias 1.0 → 2.0",)


def test_a_setting_that_is_none_is_not_an_absent_one(bench, judge):
    edit_manifest(bench, COUNT, config={})
    assert judge(COUNT, config={"new": None}).reasons == ("setting new None → None",)


def test_other_weights(bench, judge):
    edit_manifest(bench, DERIVE, weights="71aa" + "0" * 28)
    verdict = judge(DERIVE, fingerprint="c93e" + "0" * 28)
    assert verdict.reasons == ("weights changed (71aa→c93e)",)


def test_weights_that_are_not_at_hand_are_trusted(judge):
    assert judge(DERIVE, fingerprint=None).state is State.FRESH


def test_another_seed(judge):
    assert judge(DERIVE, seed=3).reasons == ("seed 0 → 3",)


def test_a_changed_scan(bench, judge):
    (bench.inputs / "a.nii").write_text("other")
    (reason,) = judge(COPY).reasons
    assert reason.startswith("scan_file changed (")


def test_a_touched_scan_is_fresh(bench, judge):
    os.utime(bench.inputs / "a.nii", (1, 1))
    assert judge(COPY).state is State.FRESH


def test_a_scan_that_is_gone_is_trusted(bench, judge):
    (bench.inputs / "a.nii").unlink()
    verdict = judge(COPY)
    assert verdict.state is State.FRESH
    assert "trusted" in verdict.reasons[0]
    assert judge(COPY, case=Case("a")).state is State.FRESH


def test_a_changed_input(bench, judge):
    artifact(bench, COPY).write_text("by another program")
    (reason,) = judge(DERIVE).reasons
    assert reason.startswith("text changed (")


def test_a_missing_input(bench, judge):
    artifact(bench, COPY).unlink()
    assert judge(DERIVE).reasons == ("text is missing",)


def test_a_missing_output(bench, judge):
    artifact(bench, COUNT).unlink()
    verdict = judge(COUNT)
    assert verdict.reasons == ("count is missing",)
    assert not verdict.whole


def test_a_changed_output(bench, judge):
    artifact(bench, COUNT).write_text("999")
    assert judge(COUNT).reasons == ("count changed on disk after it was written",)


def test_an_output_that_is_no_longer_declared(bench, judge):
    spec = replace(bench.pipeline[COUNT], writes=())
    assert judge(COUNT, spec=spec).reasons == ("count is no longer a result of this stage",)


def test_a_key_that_differs_for_no_reason_we_can_name(bench, judge):
    edit_manifest(bench, COUNT, key="0")
    assert judge(COUNT).reasons == ("its key was made by another version of payerseg",)


def test_all_reasons_are_given(bench, judge):
    artifact(bench, COPY).write_text("by another program")
    verdict = judge(DERIVE, seed=1, spec=replace(bench.pipeline[DERIVE], version=2))
    assert len(verdict.reasons) == 3


def test_an_edit_is_respected(bench, judge):
    artifact(bench, DERIVE).write_text("by hand")
    verdict = judge(DERIVE)
    assert verdict.state is State.EDITED
    assert verdict.reasons == ("a_derived.txt was edited by a person",)
    assert judge(COUNT).reasons[0].startswith("derived changed (")


def test_an_edit_of_a_stale_result_will_be_kept_as_a_copy(bench, judge):
    artifact(bench, DERIVE).write_text("by hand")
    verdict = judge(DERIVE, seed=1)
    assert verdict.state is State.STALE
    assert "a copy will be kept as a_derived.by_hand-" in verdict.reasons[-1]


def test_an_edit_that_was_deleted_brings_the_automatic_result_back(bench, judge):
    artifact(bench, DERIVE).unlink()
    assert judge(DERIVE).reasons == ("derived is missing",)


def test_a_moved_or_copied_folder_stays_fresh(bench, judge, tmp_path):
    shutil.copytree(bench.output, tmp_path / "copy", copy_function=shutil.copyfile)
    for stage in (COPY, DERIVE, COUNT):
        assert judge(stage, output=tmp_path / "copy").state is State.FRESH


def test_paths_times_and_versions_are_not_in_the_key(bench, judge):
    edit_manifest(bench, DERIVE, versions={"python": "9"}, started="never", seconds=1e9)
    assert judge(DERIVE).state is State.FRESH


def test_a_plan_without_weights_needs_none(bench):
    assert isinstance(plan_stages(bench.settings(), HashMemo())[COPY], StagePlan)
