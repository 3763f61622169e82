"""What a stage may do with one case: read and write what it declared, tell progress, note facts."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypeVar

from payerseg.atomic import sync_file
from payerseg.errors import ArtifactError
from payerseg.results.artifacts import Artifact
from payerseg.results.case_folder import MANIFEST_FILE, PARTIAL_FOLDER, CaseFolder
from payerseg.results.manifest import StageManifest
from payerseg.results.stage_folder import remove
from payerseg.stagekit.catalog import StageSpec
from payerseg.stagekit.protocol import CaseRequest, EventName

T = TypeVar("T")
Say = Callable[[EventName, Mapping[str, Any]], None]


class CaseWork:
    """One case in the hands of one stage.

    Attributes:
        case_id: names the case.
        folder: where its artifacts lie.
        notes: what was noted so far; goes into the manifest.
        written: artifacts put in place so far.
        edited: results of the stage that a person changed, where they are to be taken over.
        ended_as: set by `end_as`, else None.
        end_message: its reason.
    """

    def __init__(self, request: CaseRequest, spec: StageSpec, say: Say) -> None:
        """Open a case for a stage; `say` emits events."""
        self.case_id = request.case_id
        self.folder = CaseFolder(request.folder, request.case_id)
        self.notes: dict[str, Any] = {}
        self.written: set[Artifact] = set()
        self.edited: frozenset[Artifact] = frozenset()
        self.ended_as: Literal["no_spine"] | None = None
        self.end_message = ""
        self._image = request.image
        self._spec = spec
        self._say = say

    @property
    def image(self) -> Path:
        """The user's scan, for a stage that declares it.

        Raises:
            ArtifactError: the stage does not declare it, or the request names none.
        """
        if not self._spec.reads_scan:
            msg = f"{self._spec.name} asked for the user's scan; declare it by StageSpec.reads_scan"
            raise ArtifactError(msg)
        if self._image is None:
            msg = f"the request names no scan for {self.case_id!r}; run again with the input folder"
            raise ArtifactError(msg)
        return self._image

    def has(self, artifact: Artifact) -> bool:
        """Tell whether a declared, optional input is there.

        Raises:
            ArtifactError: the stage does not declare it.
        """
        self._check_declared(artifact, self._spec.reads, "read")
        return self.folder.path(artifact).exists()

    def read(self, artifact: Artifact[T]) -> T:
        """Return the content of a declared input.

        Raises:
            ArtifactError: it is not declared, not there, or damaged.
        """
        if not self.has(artifact):
            path = self.folder.path(artifact)
            msg = f"{artifact.name} of {self.case_id!r} is missing; expected {path}"
            raise ArtifactError(msg)
        from payerseg.results.formats import read_artifact

        return read_artifact(artifact, self.folder.path(artifact))

    def write(self, artifact: Artifact[T], value: T) -> None:
        """Write a declared output; it appears under its name only when complete.

        Raises:
            ArtifactError: it is not declared.
        """
        from payerseg.results.formats import write_artifact

        with self.path_for(artifact) as path:
            write_artifact(artifact, value, path, self.folder)

    def earlier_manifests(self) -> tuple[StageManifest, ...]:
        """Return the manifests of earlier stages, in their order.

        For showing only (times, versions, weights): they are not inputs, so nothing that a later
        stage builds on may depend on them. A manifest that is missing or damaged is left out.
        """
        found = []
        for step in sorted(
            path.parent.name for path in self.folder.root.glob(f"step*/{MANIFEST_FILE}")
        ):
            try:
                manifest = StageManifest.read(self.folder.manifest_path(step))
            except ArtifactError:
                continue
            if manifest is not None and step < self._spec.folder:
                found.append(manifest)
        return tuple(found)

    @contextmanager
    def path_for(self, artifact: Artifact) -> Iterator[Path]:
        """Give a temporary path to write a declared output to; put it in place on leaving.

        The name ends as the final one does, by which writers choose the format; a directory is made.

        Raises:
            ArtifactError: the output is not declared, or nothing was written.
        """
        self._check_declared(artifact, self._spec.writes, "write")
        final = self.folder.path(artifact)
        partial = final.parent / PARTIAL_FOLDER / final.name
        remove(partial)
        (partial if artifact.directory else partial.parent).mkdir(parents=True, exist_ok=True)
        try:
            yield partial
            if not partial.exists():
                msg = f"{self._spec.name} wrote no {artifact.name} to {partial}"
                raise ArtifactError(msg)
            for file in (item for item in (partial, *partial.rglob("*")) if item.is_file()):
                sync_file(file)
            if artifact.directory:
                remove(final)
            partial.replace(final)
        finally:
            remove(partial)  # after a failure, so that a full disk gets its space back
        self.written.add(artifact)

    def progress(self, step: str, done: int = 0, total: int = 0) -> None:
        """Tell people how far this case is; `total` 0 means unknown."""
        fields = {"case_id": self.case_id, "step": step, "done": done, "total": total}
        self._say(EventName.PROGRESS, fields)

    def progress_over(self, items: Iterable[T], step: str, total: int) -> Iterator[T]:
        """Hand items on and tell progress before each."""
        for done, item in enumerate(items):
            self.progress(step, done, total)
            yield item

    def note(self, key: str, value: Any) -> None:
        """Write something down about the case; it goes into the manifest.

        The note `needs_review` = true makes a finished case `ok_needs_review`; the note
        `review_reasons`, a list of sentences, says why.

        Raises:
            ArtifactError: the value is not plain, finite JSON.
        """
        try:
            plain = json.loads(json.dumps(value, allow_nan=False))
        except (TypeError, ValueError) as error:
            msg = f"note {key!r} is {value!r}; expected plain JSON without NaN ({error})"
            raise ArtifactError(msg) from error
        self.notes[key] = plain
        self._say(EventName.NOTE, {"case_id": self.case_id, "key": key, "value": plain})

    def end_as(self, status: Literal["no_spine"], message: str) -> None:
        """End the case here; that is its result, no failure, and later stages do not run."""
        self.ended_as = status
        self.end_message = message

    def _check_declared(
        self, artifact: Artifact, declared: tuple[Artifact, ...], verb: str
    ) -> None:
        if artifact not in declared:
            names = ", ".join(item.name for item in declared) or "nothing"
            stage = self._spec.name
            msg = f"{stage} may {verb} {names}, not {artifact.name}; declare it in its StageSpec"
            raise ArtifactError(msg)
