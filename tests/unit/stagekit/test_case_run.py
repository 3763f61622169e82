import errno
import os
from dataclasses import replace

import pytest

from payerseg.errors import (
    ArtifactError,
    BundleError,
    OutOfResources,
    SpineNotFound,
    UnreadableScan,
)
from payerseg.results.artifacts import Artifact
from payerseg.results.case_folder import PARTIAL_FOLDER, CaseFolder
from payerseg.results.fingerprint import HashMemo, file_digest, weights_digest
from payerseg.results.manifest import StageManifest
from payerseg.stagekit.case_run import Provenance, build_stage, run_case
from payerseg.stagekit.catalog import PREPARATION, SPINE_LOCALIZATION
from payerseg.stagekit.in_process import InProcessStage, load_stage_class
from payerseg.stagekit.memory import memory_mb
from payerseg.stagekit.protocol import CaseRequest, EventName, describe_failure
from payerseg.stagekit.worker import StageSetup

FIRST = Artifact("first", "step0_preparation/first.txt", "text")
TREE = Artifact("tree", "step0_preparation/tree", "text", optional=True, directory=True)
SECOND = Artifact("second", "step1_spine_localization/{case_id}.txt", "text", editable=True)
SPEC = replace(PREPARATION, reads=(), writes=(FIRST, TREE))
NEXT = replace(SPINE_LOCALIZATION, reads=(FIRST,), writes=(SECOND,), weights=False)


class Case:
    """Runs functions as stages on one case."""

    def __init__(self, root):
        self.folder = CaseFolder(root / "out" / "a", "a")
        self.image = root / "a.nii"
        self.image.write_text("scan")
        self.said = []

    def run(self, stage, spec=SPEC):
        request = CaseRequest("a", self.folder.root, self.image)
        say = lambda event, fields: self.said.append((event, fields))
        return run_case(spec, stage, request, Provenance({"x": 1}, "w", 5, {"v": "1"}), say)

    def manifest(self, spec=SPEC):
        return StageManifest.read(self.folder.manifest_path(spec.folder))


@pytest.fixture
def case(tmp_path):
    return Case(tmp_path)


def write_first(work, text="text"):
    with work.path_for(FIRST) as path:
        path.write_text(text)


def write_second(work):
    with work.path_for(SECOND) as path:
        path.write_text("automatic")


def test_the_manifest_tells_everything(case):
    def stage(work):
        write_first(work, work.image.read_text())
        work.progress("write", 1, 2)
        work.note("voxels", 12)

    result = case.run(stage)
    found = case.manifest()
    assert (result.status, result.notes) == ("done", {"voxels": 12})
    assert found.inputs == {"scan_file": file_digest(case.image)}
    assert found.outputs == {"first": file_digest(case.folder.path(FIRST))}
    assert (found.config, found.weights, found.seed, found.versions) == (
        {"x": 1},
        "w",
        5,
        {"v": "1"},
    )
    assert found.peak_rss_mb > 1
    assert found.seconds >= 0
    assert [event for event, _ in case.said] == [EventName.PROGRESS, EventName.NOTE]


def test_the_names_of_results_are_on_the_disk_before_the_manifest(case, monkeypatch):
    """The promise that a power cut leaves no manifest beside results that are not there."""
    waits = []

    def note(folder):
        waits.append((folder, (folder / "manifest.json").exists()))

    monkeypatch.setattr("payerseg.stagekit.case_run.sync_folder", note)
    case.run(write_first)
    assert waits == [(case.folder.root / SPEC.folder, False)]


def test_an_undeclared_artifact_cannot_be_touched(case):
    with pytest.raises(ArtifactError, match="may read nothing, not first"):
        case.run(lambda work: work.read(FIRST))
    with pytest.raises(ArtifactError, match="may write first, tree, not second"):
        case.run(lambda work: work.write(SECOND, ""))
    case.run(write_first)
    with pytest.raises(ArtifactError, match="declare it by StageSpec"):
        case.run(lambda work: work.image, NEXT)


def test_a_missing_input_is_told_and_the_old_result_stays(case):
    with pytest.raises(ArtifactError, match="run the earlier stages first"):
        case.run(write_first, NEXT)
    case.run(write_first)
    case.run(write_second, NEXT)
    case.folder.path(FIRST).unlink()
    with pytest.raises(ArtifactError, match="run the earlier stages first"):
        case.run(write_second, NEXT)
    assert case.folder.path(SECOND).exists()


def test_a_file_in_the_place_of_a_folder(case):
    place = case.folder.root / SPEC.folder
    place.parent.mkdir(parents=True)
    place.write_text("a person's notes")
    with pytest.raises(ArtifactError, match=r"step0_preparation is a file.*move it away"):
        case.run(write_first)
    assert place.read_text() == "a person's notes"
    place.unlink()
    place.symlink_to("nowhere")
    with pytest.raises(ArtifactError, match="link to nothing"):
        case.run(write_first)
    place.unlink()
    case.run(write_first)
    (place / PARTIAL_FOLDER).write_text("in the way")
    assert case.run(write_first).status == "done"


def test_a_stage_that_forgets_an_output_has_failed(case):
    with pytest.raises(ArtifactError, match="ended without writing first"):
        case.run(lambda work: None)

    def stage(work):
        with work.path_for(FIRST):
            pass

    with pytest.raises(ArtifactError, match="wrote no first"):
        case.run(stage)
    assert case.manifest() is None


def test_no_spine_is_a_result_without_outputs(case):
    def stage(work):
        raise SpineNotFound("peak 0.01")

    assert case.run(stage).status == "no_spine"
    assert (case.manifest().status, case.manifest().message) == ("no_spine", "peak 0.01")
    assert case.run(lambda work: work.end_as("no_spine", "too dark")).message == "too dark"


def test_a_failure_leaves_nothing(case):
    case.run(write_first)

    def stage(work):
        write_first(work, "in place already")
        with work.path_for(TREE) as folder:
            (folder / "half").write_text("half")
            raise UnreadableScan("broken")

    with pytest.raises(UnreadableScan):
        case.run(stage)
    assert case.manifest() is None
    assert [path for path in case.folder.root.rglob("*") if path.is_file()] == []


def test_directories_are_replaced_as_a_whole(case):
    def stage(names):
        def write(work):
            write_first(work)
            with work.path_for(TREE) as folder:
                for name in names:
                    (folder / name).write_text(name)

        return write

    case.run(stage(["L1", "L2"]))
    case.run(stage(["L2"]))
    assert [path.name for path in case.folder.path(TREE).iterdir()] == ["L2"]
    case.run(write_first)
    assert not case.folder.path(TREE).exists(), "an optional output of an earlier run"


def test_an_input_replaced_meanwhile_by_one_of_equal_size_and_time_is_noticed(case):
    def stage(work):
        write_first(work)
        before = case.image.stat()
        other = case.image.with_name("other")
        other.write_text("x" * before.st_size)
        os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
        other.replace(case.image)

    with pytest.raises(ArtifactError, match="scan_file changed while the stage was running"):
        case.run(stage)


def test_an_input_that_changes_meanwhile_is_noticed(case):
    def stage(work):
        write_first(work)
        case.image.write_text("another scan")

    with pytest.raises(ArtifactError, match="scan_file changed while the stage was running"):
        case.run(stage)

    def touch(work):
        write_first(work)
        os.utime(case.image, (1, 1))

    assert case.run(touch).status == "done"


def test_edits_survive_as_copies_under_one_name(case):
    case.run(write_first)
    case.run(write_second, NEXT)
    for _ in range(2):
        case.folder.path(SECOND).write_text("by hand")
        case.run(write_second, NEXT)
    copies = list(case.folder.path(SECOND).parent.glob("a.by_hand-*.txt"))
    assert [copy.read_text() for copy in copies] == ["by hand"]


@pytest.mark.parametrize("value", [float("nan"), object(), {1: {2}}])
def test_notes_are_plain_json(case, value):
    with pytest.raises(ArtifactError, match="expected plain JSON"):
        case.run(lambda work: work.note("n", value))


def test_failures_are_described():
    full = describe_failure(OSError(errno.ENOSPC, "No space left on device", "/out/x"))
    assert full.kind == "out_of_resources"
    assert full.message.startswith("the disk is full while writing /out/x; free some space")
    assert "complete is kept" in full.message
    memory = describe_failure(MemoryError(), "--set x.memory_mb=1 bounds it")
    assert (memory.kind, "--set x.memory_mb=1" in memory.message) == ("out_of_memory", True)
    engine = type("ResourceExhaustedError", (Exception,), {})("OOM when allocating")
    assert describe_failure(engine).kind == "out_of_memory"
    assert describe_failure(OSError(errno.EACCES, "denied")).kind == "bug"
    assert describe_failure(KeyError("x")).message == "KeyError: 'x'"
    assert "KeyError: 'x'" in describe_failure(KeyError("x")).traceback


def test_memory_is_measured():
    found = memory_mb()
    assert 1 < found.now <= found.peak < 1e6


def test_in_process_disk_trouble_is_a_payerseg_error(case):
    def stage_class(setup):
        def stage(work):
            raise OSError(errno.ENOSPC, "No space left on device")

        return stage

    stage = InProcessStage(SPEC, StageSetup(SPEC.config_type()()), stage_class)
    with pytest.raises(OutOfResources, match="the disk is full"):
        stage("a", case.folder.root, case.image)


def test_the_stage_class_is_found_by_the_catalog():
    assert load_stage_class(PREPARATION).__name__ == "Preparation"


@pytest.fixture
def weights(tmp_path):
    folder = tmp_path / "weights"
    folder.mkdir()
    (folder / "model.json").write_text("{}")
    (folder / "model.weights.h5").write_text("old")
    return folder


def test_weights_are_named_as_they_were_loaded(weights):
    seen = weights_digest(weights, HashMemo())
    setup = StageSetup(None, weights)
    assert build_stage(lambda _: "stage", setup) == ("stage", seen)
    assert build_stage(lambda _: "stage", setup, seen) == ("stage", seen)


@pytest.mark.parametrize("asked", ["by the driver", "in this process"])
def test_weights_replaced_while_they_are_loaded_are_refused(weights, asked):
    """Else the result of the new ones would count as fresh for the old ones, or the reverse."""
    seen = weights_digest(weights, HashMemo())

    def load(_):
        (weights / "model.weights.h5").write_text("new")
        return "stage"

    with pytest.raises(BundleError, match="replaced since the run began"):
        build_stage(load, StageSetup(None, weights), seen if asked == "by the driver" else None)


def test_weights_replaced_before_the_stage_began_are_refused(weights):
    seen = weights_digest(weights, HashMemo())
    (weights / "model.weights.h5").write_text("new")
    with pytest.raises(BundleError, match="replaced since the run began"):
        build_stage(lambda _: "stage", StageSetup(None, weights), seen)
