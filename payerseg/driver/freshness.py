"""When is a result still true? Decide it by content, and say every reason.

Fresh = the manifest is there, the key is equal, and every output is there with its hash.
Never "the file exists".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from payerseg.driver.settings import StagePlan
from payerseg.errors import ArtifactError
from payerseg.results.artifacts import Artifact
from payerseg.results.case_folder import Case, CaseFolder
from payerseg.results.fingerprint import (
    ABSENT,
    HashMemo,
    KeyParts,
    digest_of,
    scan_digest,
    scan_exists,
)
from payerseg.results.manifest import SCAN_FILE_INPUT, ResultStatus, StageManifest
from payerseg.results.stage_folder import edited_copy_path

SHORT_HASH = 4
NO_RESULT = "no result yet"


class State(StrEnum):
    """What a stage's result is worth."""

    FRESH = "fresh"
    EDITED = "edited"  # fresh, and changed by a person, which is respected
    STALE = "stale"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a stage must run for a case.

    Attributes:
        state: fresh, edited or stale.
        reasons: all of them, in words a person can check; for fresh results, remarks.
        status: of the manifest; None where there is none.
        whole: whether the result, fresh or not, is all there as it was written.
    """

    state: State
    reasons: tuple[str, ...] = ()
    status: ResultStatus | None = None
    whole: bool = False

    @property
    def stale(self) -> bool:
        """Whether the stage must run."""
        return self.state is State.STALE


def decide(case: Case, folder: CaseFolder, plan: StagePlan, memo: HashMemo) -> Verdict:
    """Tell whether a stage's result for a case is still true; what cannot be read is not."""
    try:
        manifest = StageManifest.read(folder.manifest_path(plan.spec.folder))
        if manifest is None:
            return Verdict(State.STALE, (NO_RESULT,))
        return _compare(case, folder, plan, manifest, memo)
    except ArtifactError as error:
        return Verdict(State.STALE, (str(error),))


def restores(
    folder: CaseFolder, plans: Iterable[StagePlan], readers: Iterable[StagePlan]
) -> dict[str, tuple[str, ...]]:
    """Find pruned artifacts that stages about to run will read.

    Args:
        folder: of the case.
        plans: stages that may have pruned outputs.
        readers: stages that will or may run.

    Returns:
        Stage name to reasons for running it again, only for stages that must.
    """
    needed = {item: reader.spec.name for reader in readers for item in reader.spec.reads}
    found = {}
    for plan in reversed(tuple(plans)):
        pruned = pruned_outputs(folder, plan)
        reasons = tuple(
            f"{artifact.name} was pruned and {needed[artifact]} needs it"
            for artifact in pruned
            if artifact in needed and not folder.path(artifact).exists()
        )
        if reasons:
            found[plan.spec.name] = reasons
            needed |= dict.fromkeys(plan.spec.reads, plan.spec.name)
    return found


def pruned_outputs(folder: CaseFolder, plan: StagePlan) -> tuple[Artifact, ...]:
    """Return the outputs of a stage that were removed on purpose."""
    try:
        manifest = StageManifest.read(folder.manifest_path(plan.spec.folder))
    except ArtifactError:
        return ()
    names = manifest.pruned if manifest is not None else ()
    return tuple(artifact for artifact in plan.spec.writes if artifact.name in names)


def _compare(
    case: Case, folder: CaseFolder, plan: StagePlan, manifest: StageManifest, memo: HashMemo
) -> Verdict:
    inputs, remarks = _current_inputs(case, folder, plan, manifest, memo)
    reasons = _changed_facts(manifest, plan, inputs)
    edited, broken = _changed_outputs(folder, plan.spec.writes, manifest, memo)
    reasons += broken
    if not reasons and manifest.key != _key(plan, manifest, inputs):
        reasons = ["its key was made by another version of payerseg"]
    for artifact, digest in edited:
        place = folder.path(artifact).name
        if reasons:
            copy = edited_copy_path(folder, artifact, digest).name
            remarks.append(f"{place} was edited by a person; a copy will be kept as {copy}")
        else:
            remarks.append(f"{place} was edited by a person")
    state = State.STALE if reasons else State.EDITED if edited else State.FRESH
    return Verdict(state, (*reasons, *remarks), manifest.status, whole=not broken)


def _current_inputs(
    case: Case, folder: CaseFolder, plan: StagePlan, manifest: StageManifest, memo: HashMemo
) -> tuple[dict[str, str], list[str]]:
    inputs, remarks = {}, []
    if plan.spec.reads_scan:
        inputs[SCAN_FILE_INPUT], remark = _scan_now(case.image, manifest, memo)
        remarks += [remark] if remark else []
    for artifact in plan.spec.reads:
        found = digest_of(folder.path(artifact), memo) or _pruned_digest(folder, artifact)
        inputs[artifact.name] = found or ABSENT
    return inputs, remarks


def _scan_now(
    image: Path | None, manifest: StageManifest, memo: HashMemo
) -> tuple[str, str | None]:
    """Hash the user's scan; where it is gone, what was read from it is trusted."""
    known = manifest.inputs.get(SCAN_FILE_INPUT, ABSENT)
    if image is None or not scan_exists(image):
        return known, f"the scan is not at {image}; what was read from it earlier is trusted"
    try:
        return scan_digest(image, memo), None
    except OSError as error:
        return ABSENT, f"the scan {image} cannot be read ({error.strerror})"


def _pruned_digest(folder: CaseFolder, artifact: Artifact) -> str | None:
    """Return the hash of an artifact that was pruned, from the manifest of its stage."""
    try:
        manifest = StageManifest.read(folder.manifest_path(artifact.step))
    except ArtifactError:
        return None
    if manifest is None or artifact.name not in manifest.pruned:
        return None
    return manifest.outputs.get(artifact.name)


def _key(plan: StagePlan, manifest: StageManifest, inputs: Mapping[str, str]) -> str:
    weights = _fingerprint(plan, manifest)
    return KeyParts(plan.spec.name, plan.spec.version, plan.config, weights, plan.seed, inputs).key


def _fingerprint(plan: StagePlan, manifest: StageManifest) -> str | None:
    """Return the weights' hash; weights that are not at hand cannot have changed anything."""
    return plan.fingerprint if plan.fingerprint is not None else manifest.weights


def _changed_facts(
    manifest: StageManifest, plan: StagePlan, inputs: Mapping[str, str]
) -> list[str]:
    reasons = []
    if (manifest.stage, manifest.stage_version) != (plan.spec.name, plan.spec.version):
        old = f"{manifest.stage} version {manifest.stage_version}"
        reasons.append(f"made by {old}, now version {plan.spec.version}")
    reasons += [f"setting {change}" for change in _changed_settings(manifest.config, plan.config)]
    weights = _fingerprint(plan, manifest)
    if weights != manifest.weights:
        reasons.append(f"weights changed ({_short(manifest.weights)}→{_short(weights)})")
    if plan.seed != manifest.seed:
        reasons.append(f"seed {manifest.seed} → {plan.seed}")
    for name in sorted({*inputs, *manifest.inputs}):
        before, now = manifest.inputs.get(name), inputs.get(name)
        if now == ABSENT and before != ABSENT:
            reasons.append(f"{name} is missing")
        elif before != now:
            reasons.append(f"{name} changed ({_short(before)}→{_short(now)})")
    return reasons


def _changed_settings(
    old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = ""
) -> list[str]:
    changes = []
    for name in sorted({*old, *new}):
        before, now = old.get(name), new.get(name)
        if isinstance(before, Mapping) and isinstance(now, Mapping):
            changes += _changed_settings(before, now, f"{prefix}{name}.")
        elif before != now or (name in old) != (name in new):
            changes.append(f"{prefix}{name} {before!r} → {now!r}")
    return changes


def _changed_outputs(
    folder: CaseFolder, writes: Iterable[Artifact], manifest: StageManifest, memo: HashMemo
) -> tuple[list[tuple[Artifact, str]], list[str]]:
    """Return (edited artifacts with their new hash, reasons why the result is broken)."""
    edited, broken, known = [], [], {artifact.name: artifact for artifact in writes}
    for name, digest in sorted(manifest.outputs.items()):
        if name not in known:
            broken.append(f"{name} is no longer a result of this stage")
            continue
        found = digest_of(folder.path(known[name]), memo)
        if found is None and name not in manifest.pruned:
            broken.append(f"{name} is missing")
        elif found not in (None, digest) and known[name].editable:
            edited.append((known[name], str(found)))
        elif found not in (None, digest):
            broken.append(f"{name} changed on disk after it was written")
    return edited, broken


def _short(digest: str | None) -> str:
    return digest[:SHORT_HASH] if digest else "none"
