"""What a case's folder holds now: which results are whole, and belong to what lies there.

Two questions with one answer. The driver asks, stage by stage, what has to run (`stage_content`, to which
it adds settings, weights and versions); whoever uses results asks what may be relied on
(`current_result`). Both hold the manifests against the content of the files, never against their dates.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from payerseg.errors import ArtifactError
from payerseg.results.artifacts import LANDMARKS_CSV, Artifact
from payerseg.results.case_folder import STATUS_FILE, CaseFolder
from payerseg.results.fingerprint import ABSENT, HashMemo, digest_of, scan_digest, scan_exists
from payerseg.results.landmark_edits import refused_edit
from payerseg.results.manifest import SCAN_FILE_INPUT, StageManifest
from payerseg.results.status import HAS_RESULT, CaseSummary, StageState, is_good, read_status
from payerseg.stagekit.catalog import PIPELINE, VERTEBRAE_SEGMENTATION, StageSpec

SHORT_HASH = 4


def case_folders(root: Path) -> tuple[CaseFolder, ...]:
    """List the cases of a results folder by name: each folder that holds a status or a stage's folder.

    Raises:
        OSError: the folder cannot be looked into.
    """
    return tuple(
        CaseFolder(path, path.name)
        for path in sorted(root.iterdir())
        if not path.name.startswith(".")
        and path.is_dir()
        and ((path / STATUS_FILE).is_file() or any(path.glob("step[0-9]_*")))
    )


@dataclass(frozen=True, slots=True)
class StageContent:
    """One stage's result, held against its manifest.

    Attributes:
        manifest: what the stage wrote down.
        inputs: content hash of everything it reads, as it is now; ABSENT for what is not there.
        changed: which of them differ from what was read, one phrase each; only what the stage read both
            then and now is compared.
        broken: which outputs are missing, or not as they were written.
        edited: outputs that a person may change and did, with the new hash.
        refused: why an edit cannot be used; "" where it can.
        remarks: what people should know all the same.
    """

    manifest: StageManifest
    inputs: Mapping[str, str]
    changed: tuple[str, ...]
    broken: tuple[str, ...]
    edited: tuple[tuple[Artifact, str], ...]
    refused: str
    remarks: tuple[str, ...]


def stage_content(
    folder: CaseFolder, spec: StageSpec, image: Path | None, memo: HashMemo
) -> StageContent | None:
    """Hold a stage's result against its manifest; None where there is no manifest.

    Args:
        folder: of the case.
        spec: which stage.
        image: the user's scan, if it is known.
        memo: for the hashes.

    Raises:
        ArtifactError: the manifest, or a result, cannot be read.
    """
    manifest = StageManifest.read(folder.manifest_path(spec.folder))
    if manifest is None:
        return None
    inputs, remarks = _current_inputs(folder, spec, image, manifest, memo)
    edited, broken = _changed_outputs(folder, spec.writes, manifest, memo)
    changed = []
    for name in sorted({*inputs} & {*manifest.inputs}):
        before, now = manifest.inputs[name], inputs[name]
        if now == ABSENT and before != ABSENT:
            changed.append(f"{name} is missing")
        elif before != now:
            changed.append(f"{name} changed ({short_hash(before)}→{short_hash(now)})")
    table_edited = any(artifact == LANDMARKS_CSV for artifact, _ in edited)
    refused = refused_edit(folder) if table_edited else ""
    return StageContent(
        manifest, inputs, tuple(changed), tuple(broken), tuple(edited), refused, tuple(remarks)
    )


def short_hash(digest: str | None) -> str:
    """Return enough of a hash to tell it from another."""
    return digest[:SHORT_HASH] if digest else "none"


def _current_inputs(
    folder: CaseFolder,
    spec: StageSpec,
    image: Path | None,
    manifest: StageManifest,
    memo: HashMemo,
) -> tuple[dict[str, str], list[str]]:
    inputs, remarks = {}, []
    if spec.reads_scan:
        inputs[SCAN_FILE_INPUT], remark = _scan_now(image, manifest, memo)
        remarks += [remark] if remark else []
    for artifact in spec.reads:
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


# --- what may be relied on ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CurrentResult:
    """A case as it may be used: exported, scored, shown, measured.

    Attributes:
        folder: of the case.
        summary: how the last run ended for it; an empty status where that is not known.
        manifests: by stage, of those whose results are whole and were made from what lies there now.
        trouble: why what comes after them is not to be relied on, although there is, or should be,
            something: it failed, is stale or is damaged. Empty where all belongs together.
        by_hand: what of it a person edited.
        remarks: what people should know all the same.
    """

    folder: CaseFolder
    summary: CaseSummary
    manifests: Mapping[str, StageManifest]
    trouble: tuple[str, ...]
    by_hand: frozenset[Artifact]
    remarks: tuple[str, ...]

    @property
    def no_spine(self) -> str | None:
        """Why the case ends without a spine; None where it does not."""
        found = (item.message for item in self.manifests.values() if item.status == "no_spine")
        return next(found, None)

    @property
    def needs_review(self) -> bool:
        """Whether the last run, or where it did not come to its end a stage, asks for a person's eye."""
        if is_good(self.summary.status):
            return "needs_review" in self.summary.status
        return any(manifest.needs_review for manifest in self.manifests.values())

    @property
    def failed(self) -> bool:
        """Whether the case failed in the last run."""
        return self.summary.status.startswith("failed")

    def refusal(self, last: StageSpec = VERTEBRAE_SEGMENTATION) -> str:
        """Say why the results up to a stage are not to be used; "" where they are, or are not there."""
        if last.name in self.manifests or self.no_spine is not None or not self.trouble:
            return ""
        status = self.summary.status if self.failed else "stale"
        return f"{status}: {'; '.join(self.trouble)}"

    def has(self, artifact: Artifact) -> bool:
        """Tell whether an artifact is there and may be relied on."""
        manifest = self.manifests.get(artifact.step.partition("_")[2])
        written = manifest is not None and artifact.name in manifest.outputs
        return written and self.folder.path(artifact).exists()


def current_result(
    folder: CaseFolder, memo: HashMemo, pipeline: Iterable[StageSpec] = PIPELINE
) -> CurrentResult:
    """Find what may be relied on of a case: the results up to the first that is not whole or is stale.

    A result is stale when something it was made from has changed since: the user's scan, the result of
    an earlier stage, a table that a person edited. A failure of the last run counts too, though earlier
    results may still lie there. Settings, weights and versions do not: what others would give is
    another question (`payerseg status`).

    Args:
        folder: of the case.
        memo: for the hashes.
        pipeline: the stages, in order.
    """
    remarks, by_hand = list[str](), list[Artifact]()
    summary = CaseSummary(folder.case_id, "")
    try:
        summary = read_status(folder) or summary
    except ArtifactError as error:
        remarks.append(str(error))
    manifests: dict[str, StageManifest] = {}
    trouble = _failed_as_a_whole(summary)
    for spec in pipeline:
        content = None
        outcome = summary.stages.get(spec.name)
        if not trouble and outcome is not None and outcome.state is StageState.FAILED:
            trouble = [f"{spec.name}: {outcome.message}"]
        if not trouble:
            content, trouble = _sound_content(folder, spec, summary, memo)
        if content is None:
            break
        manifests[spec.name] = content.manifest
        by_hand += [a for a in spec.writes if a.name in content.manifest.by_hand]
        by_hand += [artifact for artifact, _ in content.edited]
        if content.manifest.status == "no_spine":
            break
    remarks += [f"{folder.path(artifact).name} was edited by a person" for artifact in by_hand]
    return CurrentResult(
        folder, summary, manifests, tuple(trouble), frozenset(by_hand), tuple(remarks)
    )


def _failed_as_a_whole(summary: CaseSummary) -> list[str]:
    """Say what is wrong with a case that failed before any stage is recorded."""
    if not summary.status.startswith("failed") or summary.stages:
        return []
    return [summary.message or "the last run does not say why"]


def _sound_content(
    folder: CaseFolder, spec: StageSpec, summary: CaseSummary, memo: HashMemo
) -> tuple[StageContent | None, list[str]]:
    """Return a stage's content if it may be relied on; else why not, or nothing if it never ran."""
    try:
        content = stage_content(folder, spec, summary.image, memo)
    except ArtifactError as error:
        return None, [str(error)]
    if content is None:
        promised = spec.name in summary.stages and summary.stages[spec.name].state in HAS_RESULT
        if promised or any(folder.path(artifact).exists() for artifact in spec.writes):
            return None, [f"{spec.name}: no manifest, so what lies there is no result"]
        return None, []
    wrong = [*content.changed, *content.broken, *[content.refused] * bool(content.refused)]
    if spec.edits:
        names = [folder.path(artifact).name for artifact, _ in content.edited]
        wrong += [f"{name} was edited by a person; the next run takes it over" for name in names]
    wrong = [f"{spec.name}: {why}" for why in wrong]
    return (None, wrong) if wrong else (content, [])
