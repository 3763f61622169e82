"""Do one stage for one case: take the old result away, run, check, and write the manifest last."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Generic, TypeVar

from payerseg.atomic import sync_folder
from payerseg.errors import ArtifactError, BundleError, SpineNotFound
from payerseg.results.case_folder import PARTIAL_FOLDER, CaseFolder
from payerseg.results.fingerprint import (
    ABSENT,
    HashMemo,
    KeyParts,
    Stamp,
    digest_of,
    scan_digest,
    scan_files,
    stamp_of,
    weights_digest,
)
from payerseg.results.manifest import SCAN_FILE_INPUT, ResultStatus, StageManifest
from payerseg.results.stage_folder import clear_result, remove
from payerseg.stagekit.case_state import stage_content
from payerseg.stagekit.case_work import CaseWork, Say
from payerseg.stagekit.catalog import StageSpec
from payerseg.stagekit.memory import memory_mb
from payerseg.stagekit.protocol import CaseRequest

ConfigT = TypeVar("ConfigT")


@dataclass(frozen=True, slots=True)
class StageSetup(Generic[ConfigT]):
    """What a stage is built from, once per process.

    Attributes:
        config: its own settings.
        weights: bundle folder or checkpoint prefix; None for a stage without weights.
        seed: for everything random.
    """

    config: ConfigT
    weights: Path | None = None
    seed: int = 0


def build_stage(
    stage_class: Callable[[StageSetup[Any]], Callable[[CaseWork], None]],
    setup: StageSetup[Any],
    fingerprint: str | None = None,
) -> tuple[Callable[[CaseWork], None], str | None]:
    """Build a stage, and make sure which weights it has loaded.

    Args:
        stage_class: of the stage.
        setup: what it is built from.
        fingerprint: of the weights, as the driver saw them; None takes that of what lies there now.

    Returns:
        The stage, and its weights' fingerprint (None without weights): what manifests say of it is
        true of what it computes with.

    Raises:
        BundleError: the weights were replaced meanwhile.
        Exception: whatever the stage raises.
    """
    if setup.weights is None:
        return stage_class(setup), None
    asked = fingerprint or weights_digest(setup.weights, HashMemo())
    stage = stage_class(setup)
    loaded = weights_digest(setup.weights, HashMemo())
    if loaded != asked:
        msg = (
            f"the weights at {setup.weights} were replaced since the run began "
            f"({asked[:8]} → {loaded[:8]}); run the same command again"
        )
        raise BundleError(msg)
    return stage, loaded


@dataclass(frozen=True, slots=True)
class Provenance:
    """The part of a manifest that is the same for every case of a request.

    Attributes:
        config: settings as plain JSON.
        weights: fingerprint of the weights.
        seed: as in the setup.
        versions: of libraries and device.
    """

    config: Mapping[str, Any]
    weights: str | None = None
    seed: int = 0
    versions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CaseResult:
    """How a case ended that did not fail."""

    status: ResultStatus
    message: str
    seconds: float
    notes: Mapping[str, Any]


def run_case(
    spec: StageSpec,
    stage: Callable[[CaseWork], None],
    request: CaseRequest,
    provenance: Provenance,
    say: Say,
) -> CaseResult:
    """Do one stage for one case: a whole result, or none.

    Raises:
        PayersegError: a foreseen failure; no result is left, old or new.
        Exception: whatever the stage raises; no result is left, old or new.
    """
    started, clock = datetime.now().astimezone(), time.monotonic()
    folder = CaseFolder(request.folder, request.case_id)
    inputs = _hash_inputs(spec, folder, request.image)
    seen = _stamps(spec, folder, request.image)
    key = KeyParts(
        spec.name, spec.version, provenance.config, provenance.weights, provenance.seed, inputs
    ).key
    work = CaseWork(request, spec, say)
    with _all_or_nothing(folder, spec):
        try:
            stage(work)
        except SpineNotFound as reason:
            work.end_as("no_spine", str(reason))
        if _stamps(spec, folder, request.image) != seen:
            _check_inputs_unchanged(inputs, _hash_inputs(spec, folder, request.image))
        status: ResultStatus = work.ended_as or "done"
        manifest = StageManifest(
            stage=spec.name,
            stage_version=spec.version,
            key=key,
            status=status,
            message=work.end_message,
            inputs=inputs,
            outputs=_hash_outputs(spec, work),
            config=provenance.config,
            weights=provenance.weights,
            seed=provenance.seed,
            notes=work.notes,
            versions=provenance.versions,
            started=started.isoformat(timespec="seconds"),
            seconds=round(time.monotonic() - clock, 3),
            peak_rss_mb=memory_mb().peak,
        )
        sync_folder(folder.root / spec.folder)
        manifest.write(folder.manifest_path(spec.folder))
        # last: as long as it is there, what lies beside it is a stage's, not a person's
        remove(folder.root / spec.folder / PARTIAL_FOLDER)
    return CaseResult(status, work.end_message, manifest.seconds, work.notes)


def take_over_edits(
    spec: StageSpec,
    edits: Callable[[CaseWork], None],
    request: CaseRequest,
    provenance: Provenance,
    say: Say,
) -> CaseResult:
    """Let a stage's program for edits bring its result in step with what a person changed.

    Nothing is taken away: what the program does not write stays as it is, and if it fails, so does all.
    The manifest keeps what the result was made from, and says which outputs hold a person's work.

    Raises:
        PayersegError: the edit cannot be used.
    """
    del provenance  # the manifest keeps that of the result
    folder = CaseFolder(request.folder, request.case_id)
    content = stage_content(folder, spec, request.image, HashMemo())
    if content is None:
        msg = f"{folder.manifest_path(spec.folder)} has gone; run the stage again"
        raise ArtifactError(msg)
    work = CaseWork(request, replace(spec, reads=(*spec.reads, *spec.writes)), say)
    work.edited = frozenset(artifact for artifact, _ in content.edited)
    edits(work)
    memo, before = HashMemo(), content.manifest
    outputs = {
        artifact.name: digest
        for artifact in spec.writes
        if (digest := digest_of(folder.path(artifact), memo)) is not None
    }
    by_hand = {*before.by_hand, *(artifact.name for artifact in work.edited)}
    manifest = replace(
        before,
        outputs=outputs,
        by_hand=tuple(sorted(by_hand)),
        notes={**before.notes, **work.notes},
    )
    manifest.write(folder.manifest_path(spec.folder))
    remove(folder.root / spec.folder / PARTIAL_FOLDER)
    return CaseResult("done", "", before.seconds, work.notes)


@contextmanager
def _all_or_nothing(folder: CaseFolder, spec: StageSpec) -> Iterator[None]:
    """Take the old result away, and what there is of the new one if it does not come to its end."""
    clear_result(folder, spec.folder, spec.writes)
    (folder.root / spec.folder).mkdir(parents=True, exist_ok=True)
    complete = False
    try:
        yield
        complete = True
    finally:
        if not complete:
            clear_result(folder, spec.folder, spec.writes)


def _hash_inputs(spec: StageSpec, folder: CaseFolder, image: Path | None) -> dict[str, str]:
    memo, inputs = HashMemo(), {}
    if spec.reads_scan and image is not None:
        inputs[SCAN_FILE_INPUT] = _scan_digest(image, memo)
    for artifact in spec.reads:
        found = digest_of(folder.path(artifact), memo)
        if found is None and not artifact.optional:
            msg = f"{spec.name} needs {folder.path(artifact)}; run the earlier stages first"
            raise ArtifactError(msg)
        inputs[artifact.name] = found or ABSENT
    return inputs


def _scan_digest(image: Path, memo: HashMemo) -> str:
    """Hash the user's scan; one that cannot be read is the stage's to refuse, in its own words."""
    try:
        return scan_digest(image, memo)
    except OSError:
        return ABSENT


def _stamps(spec: StageSpec, folder: CaseFolder, image: Path | None) -> dict[str, Stamp]:
    """Return the stamp of every input file that is there."""
    paths = [folder.path(artifact) for artifact in spec.reads]
    if spec.reads_scan and image is not None:
        paths += scan_files(image)
    return {str(path): stamp_of(path) for path in paths if os.path.exists(path)}


def _check_inputs_unchanged(before: Mapping[str, str], after: Mapping[str, str]) -> None:
    changed = sorted(name for name in before if before[name] != after.get(name))
    if changed:
        msg = f"{', '.join(changed)} changed while the stage was running; run it again"
        raise ArtifactError(msg)


def _hash_outputs(spec: StageSpec, work: CaseWork) -> dict[str, str]:
    memo, outputs = HashMemo(), {}
    for artifact in spec.writes:
        if artifact in work.written:
            outputs[artifact.name] = memo.digest(work.folder.path(artifact))
        elif not artifact.optional and work.ended_as is None:
            msg = f"{spec.name} ended without writing {artifact.name}, which is not optional"
            raise ArtifactError(msg)
    return outputs
