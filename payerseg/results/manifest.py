"""The manifest of a stage's result: written last, so its presence says that everything is there.

No manifest, no result, whatever files lie in the folder.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from payerseg.errors import ArtifactError

MANIFEST_FORMAT = 1
# The input that is not an artifact: the user's scan.
SCAN_FILE_INPUT = "scan_file"

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
        notes: what the stage wrote down about the case.
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
    notes: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    started: str = ""
    seconds: float = 0.0
    peak_rss_mb: float = 0.0
    format: int = MANIFEST_FORMAT

    @classmethod
    def read(cls, path: Path) -> StageManifest | None:
        """Read a manifest; None where there is none.

        Raises:
            ArtifactError: it is damaged or of another format.
        """
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            msg = f"manifest {path} cannot be read ({error}); the stage must run again"
            raise ArtifactError(msg) from error
        known = {item.name for item in fields(cls)}
        if not isinstance(data, dict) or data.get("format") != MANIFEST_FORMAT or set(data) - known:
            msg = f"manifest {path} is not of format {MANIFEST_FORMAT}; the stage must run again"
            raise ArtifactError(msg)
        try:
            return cls(**{**data, "pruned": tuple(data.get("pruned", ()))})
        except TypeError as error:
            msg = f"manifest {path} lacks a field ({error}); the stage must run again"
            raise ArtifactError(msg) from error

    def write(self, path: Path) -> None:
        """Write it in one step that survives a crash of the machine.

        Raises:
            ValueError: a note is not plain, finite JSON.
        """
        write_json(path, asdict(self))

    def with_pruned(self, names: tuple[str, ...]) -> StageManifest:
        """Return it with more outputs listed as removed on purpose."""
        return replace(self, pruned=tuple(sorted({*self.pruned, *names})))


def write_json(path: Path, value: Any) -> None:
    """Write JSON so that a reader sees the old file or the whole new one, even after a power cut.

    Raises:
        ValueError: a number is not finite.
    """
    text = json.dumps(value, indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.partial")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable, where the system can (Windows cannot open folders)."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
