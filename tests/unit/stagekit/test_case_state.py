"""What may be relied on of a case's folder."""

from dataclasses import replace

import pytest
from result_folders import seal

from payerseg.results.artifacts import CANDIDATES, CT, LANDMARKS_CSV, SCAN, SPINE_BOX
from payerseg.results.case_folder import CaseFolder
from payerseg.results.fingerprint import HashMemo
from payerseg.results.manifest import StageManifest
from payerseg.results.status import StageOutcome, StageState
from payerseg.stagekit.case_state import case_folders, current_result


@pytest.fixture
def folder(tmp_path):
    """A case whose first two stages are done."""
    folder = CaseFolder(tmp_path / "a", "a")
    for artifact in (CT, SCAN, SPINE_BOX):
        path = folder.path(artifact)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(artifact.name)
    return seal(folder, status="done_to_spine_localization")


def found(folder):
    return current_result(folder, HashMemo())


def rewrite(folder, artifact, **changes):
    path = folder.manifest_path(artifact.step)
    replace(StageManifest.read(path), **changes).write(path)


def test_a_case_that_is_whole_so_far(folder, tmp_path):
    (tmp_path / ".payerseg").mkdir()
    (tmp_path / "pictures").mkdir()
    assert [one.case_id for one in case_folders(tmp_path)] == ["a"]
    now = found(folder)
    assert list(now.manifests) == ["preparation", "spine_localization"]
    assert (now.trouble, now.refusal(), now.no_spine, now.failed) == ((), "", None, False)
    assert now.has(SPINE_BOX)
    assert not now.has(LANDMARKS_CSV)


@pytest.mark.parametrize(
    ("act", "said"),
    [
        (lambda f: f.path(CT).write_text("other"), "ct changed on disk after it was written"),
        (lambda f: f.path(SPINE_BOX).unlink(), "spine_box is missing"),
        (lambda f: f.manifest_path(CT.step).write_text("{"), "is not JSON"),
        (
            lambda f: f.manifest_path(CT.step).unlink(),
            "no manifest, so what lies there is no result",
        ),
        (lambda f: rewrite(f, SPINE_BOX, outputs={"sketch": "1"}), "sketch is no longer a result"),
        (lambda f: rewrite(f, SPINE_BOX, inputs={"ct": "0000"}), "ct changed (0000→"),
    ],
)
def test_what_does_not_hold_together_is_told_and_refused(folder, act, said):
    act(folder)
    now = found(folder)
    assert said in now.trouble[0]
    assert now.refusal().startswith("stale: ")


def test_a_pruned_input_is_what_its_stage_wrote(folder):
    rewrite(folder, CT, pruned=("ct",))
    folder.path(CT).unlink()
    assert list(found(folder).manifests) == ["preparation", "spine_localization"]
    folder.manifest_path(CT.step).write_text("{")  # now nobody knows what it was
    assert "is not JSON" in found(folder).trouble[0]


def test_a_failure_of_the_last_run_counts_though_earlier_results_lie_there(folder):
    failed = StageOutcome(StageState.FAILED, "bug", "it broke")
    seal(folder, status="failed_spine_localization_bug", stages={"spine_localization": failed})
    now = found(folder)
    assert (now.failed, now.trouble) == (True, ("spine_localization: it broke",))
    assert now.refusal() == "failed_spine_localization_bug: spine_localization: it broke"
    seal(folder, status="failed_preparation_usage", message="")
    assert found(folder).trouble == ("the last run does not say why",)


def test_a_stage_that_is_said_to_be_done_has_a_manifest(folder):
    done = {"vertebrae_localization": StageOutcome(StageState.DONE)}
    seal(folder, stages=done)
    assert "vertebrae_localization: no manifest" in found(folder).trouble[0]
    seal(folder)
    folder.path(CANDIDATES).parent.mkdir()
    folder.path(CANDIDATES).write_text("{}")
    assert "vertebrae_localization: no manifest" in found(folder).trouble[0]


def test_no_spine_and_review_are_read_from_status_or_manifests(folder):
    rewrite(
        folder, SPINE_BOX, status="no_spine", message="nothing seen", notes={"needs_review": True}
    )
    now = found(folder)
    assert (now.no_spine, now.refusal(), now.needs_review) == ("nothing seen", "", False)
    (folder.root / "status.json").write_text("{")
    now = found(folder)
    assert now.needs_review
    assert "is not JSON" in now.remarks[0]
