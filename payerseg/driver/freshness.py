"""When is a result still true? Decide it by content, and say every reason.

Fresh = the manifest is there, the key is equal, and every output is there with its hash.
Never "the file exists".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from payerseg.config.schema import Keep
from payerseg.driver.settings import StagePlan
from payerseg.errors import ArtifactError
from payerseg.results.artifacts import Artifact
from payerseg.results.case_folder import Case, CaseFolder
from payerseg.results.fingerprint import HashMemo, KeyParts
from payerseg.results.manifest import ResultStatus, StageManifest
from payerseg.results.stage_folder import edited_copy_path, remove
from payerseg.stagekit.case_state import StageContent, short_hash, stage_content
from payerseg.stagekit.catalog import StageSpec

NO_RESULT = "no result yet"


class State(StrEnum):
    """What a stage's result is worth."""

    FRESH = "fresh"
    EDITED = "edited"  # fresh, and changed by a person, which is respected
    REFUSED = "refused"  # changed by a person in a way that cannot be used
    STALE = "stale"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a stage must run for a case.

    Attributes:
        state: fresh, edited, refused or stale.
        reasons: all of them, in words a person can check; for fresh results, remarks.
        status: of the manifest; None where there is none.
        whole: whether the result, fresh or not, is all there as it was written.
        to_take_over: whether a person's edit waits for the stage's own program to take it over.
        precious: whether a new result would replace work of a person that needs `--force` to be replaced.
    """

    state: State
    reasons: tuple[str, ...] = ()
    status: ResultStatus | None = None
    whole: bool = False
    to_take_over: bool = False
    precious: bool = False

    @property
    def stale(self) -> bool:
        """Whether the stage must run."""
        return self.state is State.STALE


def decide(case: Case, folder: CaseFolder, plan: StagePlan, memo: HashMemo) -> Verdict:
    """Tell whether a stage's result for a case is still true; what cannot be read is not."""
    try:
        content = stage_content(folder, plan.spec, case.image, memo)
        if content is None:
            return Verdict(State.STALE, (NO_RESULT,))
        return _compare(content, folder, plan)
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


def _compare(content: StageContent, folder: CaseFolder, plan: StagePlan) -> Verdict:
    manifest, remarks = content.manifest, list(content.remarks)
    reasons = [*_changed_facts(manifest, plan), *content.changed]
    for name in sorted({*content.inputs} ^ {*manifest.inputs}):
        before, now = manifest.inputs.get(name), content.inputs.get(name)
        reasons.append(f"{name} changed ({short_hash(before)}→{short_hash(now)})")
    reasons += content.broken
    if not reasons and manifest.key != _key(plan, manifest, content.inputs):
        reasons = ["its key was made by another version of payerseg"]
    for artifact, digest in content.edited:
        place = folder.path(artifact).name
        if reasons and not plan.spec.edits:
            copy = edited_copy_path(folder, artifact, digest).name
            remarks.append(f"{place} was edited by a person; a copy will be kept as {copy}")
        else:
            remarks.append(f"{place} was edited by a person")
    by_hand = [artifact for artifact in plan.spec.writes if artifact.name in manifest.by_hand]
    kept = [folder.path(artifact) for artifact in by_hand if folder.path(artifact).exists()]
    remarks += [f"{path.name} was edited by a person" for path in kept]
    state = State.EDITED if content.edited or by_hand else State.FRESH
    if reasons:
        state = State.STALE
    elif content.refused:
        state, remarks = State.REFUSED, [content.refused]
    return Verdict(
        state,
        (*reasons, *remarks),
        manifest.status,
        whole=not content.broken,
        to_take_over=bool(plan.spec.edits and content.edited),
        precious=bool(plan.spec.edits and (content.edited or kept)),
    )


def _key(plan: StagePlan, manifest: StageManifest, inputs: Mapping[str, str]) -> str:
    weights = _fingerprint(plan, manifest)
    return KeyParts(plan.spec.name, plan.spec.version, plan.config, weights, plan.seed, inputs).key


def _fingerprint(plan: StagePlan, manifest: StageManifest) -> str | None:
    """Return the weights' hash; weights that are not at hand cannot have changed anything."""
    return plan.fingerprint if plan.fingerprint is not None else manifest.weights


def _changed_facts(manifest: StageManifest, plan: StagePlan) -> list[str]:
    reasons = []
    if (manifest.stage, manifest.stage_version) != (plan.spec.name, plan.spec.version):
        old = f"{manifest.stage} version {manifest.stage_version}"
        reasons.append(f"made by {old}, now version {plan.spec.version}")
    reasons += [f"setting {change}" for change in _changed_settings(manifest.config, plan.config)]
    weights = _fingerprint(plan, manifest)
    if weights != manifest.weights:
        reasons.append(f"weights changed ({short_hash(manifest.weights)}→{short_hash(weights)})")
    if plan.seed != manifest.seed:
        reasons.append(f"seed {manifest.seed} → {plan.seed}")
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


def prune_case(folder: CaseFolder, pipeline: Iterable[StageSpec], keep: Keep) -> None:
    """Remove the intermediates of a complete case; of an incomplete one, nothing.

    The manifest says so first, so nothing becomes stale by it.

    Raises:
        OSError: a file cannot be removed.
        ArtifactError: a manifest is damaged.
    """
    manifests = {spec: StageManifest.read(folder.manifest_path(spec.folder)) for spec in pipeline}
    if not _complete(manifests.values()):
        return
    for spec, manifest in manifests.items():
        if manifest is None:
            continue
        gone = [
            artifact
            for artifact in spec.writes
            if artifact.name in manifest.outputs and not artifact.stays_at(keep)
        ]
        names = tuple(artifact.name for artifact in gone)
        if set(names) - set(manifest.pruned):
            manifest.with_pruned(names).write(folder.manifest_path(spec.folder))
        for artifact in gone:
            remove(folder.path(artifact))


def _complete(manifests: Iterable[StageManifest | None]) -> bool:
    """Tell whether every stage has a result, or an early one ended the case."""
    for manifest in manifests:
        if manifest is None:
            return False
        if manifest.status == "no_spine":
            return True
    return True
