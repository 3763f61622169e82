"""The manifest of a stage's result: written last, so its presence says that everything is there.

No manifest, no result, whatever files lie in the folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from payerseg import records
from payerseg.atomic import write_text
from payerseg.errors import ArtifactError

MANIFEST_FORMAT = 1
# The input that is not an artifact: the user's scan.
SCAN_FILE_INPUT = "scan_file"
REVIEW_NOTE, REASONS_NOTE = "needs_review", "review_reasons"

ResultStatus = Literal["done", "no_spine"]


@dataclass(frozen=True, slots=True)
class StageManifest:
    """What one stage did for one case, and from what.

    Attributes:
        stage, stage_version: which code.
        key: hash of everything the result depends on by intent, see `fingerprint.stage_key`.
        status: "done", or "no_spine": the case ends here and that is its result.
        message: why it ended, where it did.
        inputs: content hash of everything read.
        outputs: content hash of everything written.
        pruned: names of outputs that were removed on purpose after the case was complete.
        config: the stage's own settings.
        weights: fingerprint of the weights, None for a stage without.
        seed: given to the stage.
        by_hand: names of outputs that hold a person's work, which was taken over.
        notes: what the stage wrote down about the case, see `CaseWork.note`.
        versions: of libraries; device. For people: not part of the key.
        started: local time, ISO 8601.
        seconds: from the start of the case to its manifest.
        peak_rss_mb: highest memory of the process so far, MB.
    """

    stage: str
    stage_version: int
    key: str
    status: ResultStatus = "done"
    message: str = ""
    inputs: Mapping[str, str] = field(default_factory=dict)
    outputs: Mapping[str, str] = field(default_factory=dict)
    pruned: tuple[str, ...] = ()
    config: Mapping[str, Any] = field(default_factory=dict)
    weights: str | None = None
    seed: int = 0
    by_hand: tuple[str, ...] = ()
    notes: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    started: str = ""
    seconds: float = 0.0
    peak_rss_mb: float = 0.0
    format: int = MANIFEST_FORMAT

    def __post_init__(self) -> None:
        """Refuse notes that decide a case's status and are of another type than is asked.

        Raises:
            TypeError: says which.
        """
        review, reasons = self.notes.get(REVIEW_NOTE, False), self.notes.get(REASONS_NOTE, ())
        if not isinstance(review, bool):
            msg = f"Expected `bool`, got `{type(review).__name__}` - at `$.notes.{REVIEW_NOTE}`"
            raise TypeError(msg)
        if not isinstance(reasons, list | tuple):
            msg = f"Expected `array`, got `{type(reasons).__name__}` - at `$.notes.{REASONS_NOTE}`"
            raise TypeError(msg)

    @property
    def needs_review(self) -> bool:
        """Whether the stage asks for a person's eye."""
        return bool(self.notes.get(REVIEW_NOTE))

    @property
    def review_reasons(self) -> tuple[str, ...]:
        """Why, in sentences."""
        return tuple(map(str, self.notes.get(REASONS_NOTE, ())))

    @classmethod
    def read(cls, path: Path) -> StageManifest | None:
        """Read a manifest; None where there is none.

        Raises:
            ArtifactError: it is damaged, or of another format.
        """
        manifest = records.read(cls, path, "the stage must run again")
        if manifest is not None and manifest.format != MANIFEST_FORMAT:
            msg = (
                f"{path} is of format {manifest.format}, this payerseg reads {MANIFEST_FORMAT}; "
                "the stage must run again"
            )
            raise ArtifactError(msg)
        return manifest

    def write(self, path: Path) -> None:
        """Write it in one step that survives a crash of the machine.

        Raises:
            ValueError: a note is not plain, finite JSON.
        """
        write_text(path, records.to_json(self), durable=True)

    def with_pruned(self, names: tuple[str, ...]) -> StageManifest:
        """Return it with more outputs listed as removed on purpose."""
        return replace(self, pruned=tuple(sorted({*self.pruned, *names})))
