"""One stage's folder in a case: taking an old result away without losing a person's work."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from payerseg.atomic import replacing
from payerseg.errors import ArtifactError
from payerseg.results.artifacts import Artifact
from payerseg.results.case_folder import PARTIAL_FOLDER, CaseFolder
from payerseg.results.fingerprint import HashMemo, digest_of
from payerseg.results.manifest import StageManifest


def clear_result(folder: CaseFolder, step: str, writes: Iterable[Artifact]) -> None:
    """Take an old result away: its manifest first, then its files; a person's edits are copied.

    Args:
        folder: of the case.
        step: name of the stage's folder in it.
        writes: what the stage declares.

    Raises:
        ArtifactError: something else is in the place of the stage's folder.
    """
    writes, place = tuple(writes), folder.root / step
    if os.path.lexists(place) and not place.is_dir():
        msg = f"{place} is a file, or a link to nothing, where results should be; move it away"
        raise ArtifactError(msg)
    keep_edits(folder, step, writes)
    at_work = folder.root / step / PARTIAL_FOLDER
    if folder.manifest_path(step).exists() and not at_work.is_dir():
        remove(at_work)
        at_work.mkdir()  # until it goes, what lies here is no person's
    remove(folder.manifest_path(step))
    for left_over in (folder.root / step).glob(".*.partial*"):  # of a process killed while it wrote
        remove(left_over)
    for artifact in writes:
        remove(folder.path(artifact))
    remove(at_work)


def keep_edits(folder: CaseFolder, step: str, writes: Iterable[Artifact]) -> list[Path]:
    """Copy every artifact that a person edited to a name of its own; return the copies.

    Where no manifest tells what the stage wrote, everything that a person may edit is copied, unless the
    stage was just writing it when it ended. The copy's name holds the content's hash, so doing it
    twice makes one copy.
    """
    try:
        manifest = StageManifest.read(folder.manifest_path(step))
    except ArtifactError:
        manifest = None
    if manifest is None and (folder.root / step / PARTIAL_FOLDER).exists():
        return []
    written = manifest.outputs if manifest is not None else {}
    taken_over = manifest.by_hand if manifest is not None else ()
    copies = []
    for artifact in writes:
        found = digest_of(folder.path(artifact), HashMemo()) if artifact.editable else None
        if found is None or (
            found == written.get(artifact.name) and artifact.name not in taken_over
        ):
            continue
        copy = edited_copy_path(folder, artifact, found)
        if copy.exists():
            continue
        with replacing(copy, durable=not artifact.directory) as partial:
            copy_all = shutil.copytree if artifact.directory else shutil.copyfile
            copy_all(folder.path(artifact), partial)
        copies.append(copy)
    return copies


def edited_copy_path(folder: CaseFolder, artifact: Artifact, digest: str) -> Path:
    """Return where an edited artifact is kept when its stage has to run again."""
    path = folder.path(artifact)
    ending = next((end for end in (".nii.gz",) if path.name.endswith(end)), path.suffix)
    stem = path.name.removesuffix(ending)
    return path.with_name(f"{stem}.by_hand-{digest[:8]}{ending}")


def remove(path: Path) -> None:
    """Remove a file or a tree, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
