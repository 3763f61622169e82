"""Every damage of a results folder that shared/cases knows, through every command that reads it.

The pipeline runs in this process, and its networks are stand-ins that know the truth, so that a hundred
runs take minutes: what is tried is the driver and the readers.
"""

import hashlib
import importlib.util
import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from report_cases import decision_of

from payerseg.cli.app import payerseg, run_guarded
from payerseg.config.model_card import ModelCard, SamplingSpec, UNetSpec
from payerseg.domain.spine_box import SpineBox
from payerseg.driver import stage_run
from payerseg.driver.supervisor import ChildEnd
from payerseg.imaging.files import write_volume
from payerseg.imaging.orient import to_canonical
from payerseg.results import artifacts as a
from payerseg.results.case_folder import CaseFolder
from payerseg.stagekit import worker
from payerseg.stagekit.case_run import run_case, take_over_edits
from payerseg.stagekit.catalog import MASK_EDITS, PIPELINE
from payerseg.stagekit.in_process import load_stage_class
from payerseg.stagekit.protocol import decode_event, encode_event

pytestmark = pytest.mark.slow
LEVELS = {"aa": ("T11", "L3"), "bb": ("T10", "L2")}
SPECS = {spec.module: spec for spec in (*PIPELINE, MASK_EDITS)}
DAMAGED, OTHER = "aa", "bb"
UNSAID = (
    "hashes_",  # a memo, which is begun anew
    "stranger_", "by_hand_", "mask_stranger", "measurements_",  # none of our files: no stage wrote them
    "run_future", "run_config_empty", "run_folder_missing",  # records that say less; told as such
    "status_image_",  # as of a scan that was moved away
    "lock_fresh_empty",  # as a kill left it before there were leases
)  # fmt: skip
"""Damages that are not told by the file's name, as no result depends on it."""
BY_HAND = ("landmarks.csv", "_seg.nii.gz")
TRUTHS = {}
SHARED = Path(os.environ.get("PAYERSEG_SHARED", Path(__file__).resolve().parents[3] / "shared"))


def stand_in(spec):
    """A stage without a network: it writes what is true of the case."""

    def stage(work):
        spine = TRUTHS[work.case_id]
        for artifact in spec.reads:  # as a real one, which is how it meets what is damaged
            work.read(artifact)
        if spec.name == "spine_localization":
            points = spine.landmarks.positions_mm
            box = SpineBox(tuple(points.min(axis=0) - 20), tuple(points.max(axis=0) + 20))
            work.write(a.SPINE_BOX, box)
        elif spec.name == "vertebrae_localization":
            work.write(a.CANDIDATES, [])
            work.write(a.LANDMARKS_JSON, decision_of(spine.landmarks))
            work.write(a.LANDMARKS_CSV, spine.landmarks)
        elif not work.read(a.LANDMARKS_CSV):
            work.end_as("no_spine", "landmarks.csv lists no vertebra")
            work.note("needs_review", value=True)
        else:
            labels, _ = to_canonical(spine.labels)
            array = np.ascontiguousarray(labels.array, np.uint8)
            work.write(a.SEGMENTATION, labels.with_array(array))
            masks = {
                vertebra: labels.with_array((array == vertebra.verse_label).astype(np.uint8))
                for vertebra in work.read(a.LANDMARKS_CSV)
            }
            work.write(a.VERTEBRAE, masks)
            work.write(a.MASK_REPORT, {})

    return lambda _setup: stage


class ChildInThisProcess:
    """Stands in for `supervisor.Child`: same request, same events, no process."""

    def __init__(self, command, _timers):
        self.command = command

    def run(self, on_event):
        spec, rejected = SPECS[self.command.module], []

        def say(event, fields):
            told = decode_event(encode_event(event, 0.0, fields))
            if event == "stage_rejected":
                rejected.append(told)
            on_event(told)

        say.closed = ClosedAtOnce()
        stage = stand_in(spec) if spec.weights else load_stage_class(spec)
        do_case = take_over_edits if spec is MASK_EDITS else run_case
        program = worker.Program(spec, stage, do_case)
        code = worker._run_request(program, self.command.request, say)
        return ChildEnd(
            int(code), not rejected, rejected[0] if rejected else None, None, None, 0.0, 0
        )


def write_weights(folder, stage):
    """A bundle that is sound by its card, which is all that the driver looks at."""
    folder.mkdir(parents=True)
    (folder / "model.weights.h5").write_bytes(stage.encode())
    digest = hashlib.sha256(stage.encode()).hexdigest()
    card = ModelCard(stage, UNetSpec((4,)), SamplingSpec(8.0), weights_sha256=digest)
    (folder / "model.json").write_text(card.to_json())
    return folder


class ClosedAtOnce:
    """So that no heartbeat thread lives on."""

    def is_set(self):
        return True


def known_damages():
    """Name → function that damages the copy of a case folder; {} without the shared folder."""
    script = SHARED / "cases" / "damaged_state.py"
    if not script.is_file():
        return {}
    sys.path.insert(0, str(script.parent))
    try:
        spec = importlib.util.spec_from_file_location("damaged_state", script)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(script.parent))
    return module.Damage().all


DAMAGES = known_damages()


@pytest.fixture(scope="module")
def in_process():
    patch = pytest.MonkeyPatch()
    patch.setattr(stage_run, "Child", ChildInThisProcess)
    yield
    patch.undo()


@pytest.fixture(scope="module")
def finished(tmp_path_factory, synthetic_spine, in_process):
    """A folder with scans, their truth and finished results, and the options that made these."""
    root = tmp_path_factory.mktemp("finished")
    for case_id, (first, last) in LEVELS.items():
        made = synthetic_spine(first=first, last=last)
        TRUTHS[case_id] = made
        for folder, name, volume in (
            ("in", f"{case_id}.nii.gz", made.ct),
            ("truth", f"{case_id}_seg.nii.gz", made.labels),
        ):
            (root / folder).mkdir(exist_ok=True)
            write_volume(volume, root / folder / name)
    flags = [
        text
        for step, spec in enumerate((s for s in PIPELINE if s.weights), start=1)
        for text in (f"--model_step{step}", str(write_weights(root / "w" / spec.name, spec.name)))
    ]
    flags += ["--set", "quality_report.viewer=false"]
    assert run_guarded(payerseg, ["run", str(root / "in"), "-o", str(root / "out"), *flags]) == 0
    return root, flags


def call(capsys, *arguments):
    code = run_guarded(payerseg, [str(item) for item in arguments])
    out, err = capsys.readouterr()
    return code, out + err


def contents(folder):
    """Every file's content by its path; a folder without files counts as an empty one."""
    return {
        path.relative_to(folder): path.read_bytes() if path.is_file() else b""
        for path in folder.rglob("*")
        if path.is_file() or not any(path.iterdir())
    }


def is_named(path, case_id, said):
    """Whether a file of a results folder is spoken of: by its name, or its artifact's."""
    folder = CaseFolder(Path(case_id), case_id)
    artifacts = [item for item in vars(a).values() if isinstance(item, a.Artifact)]
    names = [item.name for item in artifacts if path.is_relative_to(folder.path(item))]
    return any(name in said for name in (path.stem, *names))


@pytest.mark.skipif(not DAMAGES, reason=f"no cases/damaged_state.py in {SHARED}")
@pytest.mark.parametrize("name", DAMAGES or ["none"])
def test_every_damage_has_a_truthful_outcome(finished, tmp_path, capsys, name, record_property):
    root, flags = finished
    copy = tmp_path / "out"
    shutil.copytree(root / "out", copy)
    before = contents(copy)
    DAMAGES[name](copy / DAMAGED)
    after = contents(copy)
    damaged = {path for path in {*before, *after} if before.get(path) != after.get(path)}
    commands = {
        "status": ("status", copy),
        "dry run": ("run", root / "in", "-o", copy, "--dry-run", *flags),
        "report": ("report", copy),
        "export": ("export", copy, "--to", "flat", "-o", tmp_path / "export"),
        "evaluate": ("evaluate", copy, "--truth", root / "truth", "-o", tmp_path / "scores"),
        "run": ("run", root / "in", "-o", copy, *flags),
        "status after": ("status", copy),
    }
    outcomes = {what: call(capsys, *arguments) for what, arguments in commands.items()}
    codes = {what: code for what, (code, _) in outcomes.items()}
    record_property("outcome", ", ".join(f"{what} {code}" for what, code in codes.items()))
    wrong = [
        f"{what}: exit {code}\n{said[-1500:]}"
        for what, (code, said) in outcomes.items()
        if code not in (0, 2, 3) or "_bug" in said
    ]
    assert not wrong, "\n\n".join(wrong)
    if codes["export"] != 2:
        flat = tmp_path / "export" / "flat" / f"{OTHER}_segmentation.nii.gz"
        assert flat.is_file(), "the other case was not exported"
    if codes["run"] != 2:
        assert json.loads((copy / OTHER / "status.json").read_text())["status"] == "ok"
    said = "\n".join(said for _, said in outcomes.values())
    unnamed = [str(path) for path in damaged if not is_named(path, DAMAGED, said)]
    assert name.startswith(UNSAID) or not unnamed, f"not named: {unnamed}\n{said}"
    by_hand = {path for path in damaged & {*after} if path.name.endswith(BY_HAND)}
    kept = set(contents(copy).values())
    lost = [str(path) for path in by_hand if after[path] not in kept]
    assert not lost, f"a person's work is gone: {lost}"
    if codes["run"] == 0 and not name.startswith("stranger_"):
        code, told = outcomes["status after"]
        assert (code, "stale" in told) == (0, False), told


USED = ("csv_semicolon", "csv_bom", "csv_blanks", "csv_header_only")
EITHER = ("csv_cr", "csv_renamed", "csv_folder")
"""Old line ends beside one point, a level that the spine may have, and what is no table."""


@pytest.mark.skipif(not DAMAGES, reason=f"no cases/damaged_state.py in {SHARED}")
@pytest.mark.parametrize("name", [n for n in DAMAGES if n.startswith("csv_")] or ["none"])
def test_an_edited_table_is_used_or_refused_before_anything(finished, tmp_path, capsys, name):
    root, flags = finished
    copy = tmp_path / "out"
    shutil.copytree(root / "out", copy)
    DAMAGES[name](copy / DAMAGED)
    before = {
        path: path.read_bytes() for path in (copy / DAMAGED).rglob("step*/*.*") if path.is_file()
    }
    words = ("stage", "vertebrae_segmentation", copy, "--only-case", DAMAGED, "--then-later")
    code, said = call(capsys, *words, *flags)
    table = copy / DAMAGED / "step2_vertebrae_localization" / "landmarks.csv"
    assert before.get(table) == (table.read_bytes() if table.is_file() else None), (
        "the edit is gone"
    )
    if name in EITHER:
        assert code in (0, 3), said
        return
    assert code == (0 if name in USED else 3), said
    status = json.loads((copy / DAMAGED / "status.json").read_text())
    if name in USED:
        assert status["stages"]["vertebrae_localization"]["state"] == "edited"
        assert status["status"] == ("ok_needs_review" if name == "csv_header_only" else "ok")
        return
    assert status["status"] == "ok", "the word of before, with the refusal beside it"
    assert "landmarks.csv" in status["message"]
    assert all(path.read_bytes() == content for path, content in before.items())
