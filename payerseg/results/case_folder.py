"""A case: the user's scan, and the folder that holds everything known about it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from payerseg.results.artifacts import Artifact

MANIFEST_FILE = "manifest.json"
STATUS_FILE = "status.json"
PARTIAL_FOLDER = ".partial"
DRIVER_FOLDER = ".payerseg"
"""Beside the case folders: what the driver keeps for itself."""


@dataclass(frozen=True, slots=True)
class Case:
    """What the user gave.

    Attributes:
        case_id: names the case folder and the result files.
        image: the scan; None for a case of which only results are at hand.
    """

    case_id: str
    image: Path | None = None


@dataclass(frozen=True, slots=True)
class CaseFolder:
    """The only memory between processes.

    Attributes:
        root: the case's own folder, `<output>/<case_id>`.
        case_id: as in `Case`.
    """

    root: Path
    case_id: str

    def path(self, artifact: Artifact) -> Path:
        """Return where an artifact lies, whether or not it exists."""
        return self.root / artifact.where.format(case_id=self.case_id)

    def manifest_path(self, step: str) -> Path:
        """Return where the manifest of a stage folder lies."""
        return self.root / step / MANIFEST_FILE

    @property
    def status_path(self) -> Path:
        """Where the driver writes how the case ended."""
        return self.root / STATUS_FILE
