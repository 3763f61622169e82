"""Remove what a run need not keep. The manifest says so first, so nothing becomes stale by it."""

from __future__ import annotations

from collections.abc import Iterable

from payerseg.config.schema import Keep
from payerseg.results.case_folder import CaseFolder
from payerseg.results.manifest import StageManifest
from payerseg.results.stage_folder import remove
from payerseg.stagekit.catalog import StageSpec


def prune_case(folder: CaseFolder, pipeline: Iterable[StageSpec], keep: Keep) -> None:
    """Remove the intermediates of a complete case; of an incomplete one, nothing.

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
