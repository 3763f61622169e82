"""Which files of a folder, zip or single file are one scan: a DICOM series as one thing.

The driver reads it, so without numpy.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from payerseg import records
from payerseg.errors import UnreadableScan

SERIES_SUFFIX = ".dicomseries"
SERIES_FORMAT = 2


@dataclass(frozen=True, slots=True)
class SeriesReference:
    """One scan that consists of many files.

    Attributes:
        source: absolute path of a folder, of a zip, or of a single file.
        members: the scan's files, names below the source with "/"; for a single file its own name.
        frames: member to the frames that belong to the scan, where a file holds others too.
        reason: why this series was chosen, for people.
        notes: what was noticed when it was put together: code, message, whether a person must look.
    """

    source: Path
    members: tuple[str, ...]
    frames: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    reason: str = ""
    notes: tuple[tuple[str, str, bool], ...] = ()

    @property
    def files(self) -> list[Path]:
        """The files to be hashed: those of the series, or the whole zip."""
        if self.source.is_dir():
            return [self.source / name for name in self.members]
        return [self.source]

    @property
    def content(self) -> dict[str, object]:
        """What of the files is meant, and what is said of them, independent of where they lie."""
        names = [] if self.source.is_dir() else list(self.members)
        frames = [list(self.frames.get(name, ())) for name in self.members]
        return {"names": names, "frames": frames, "notes": [list(note) for note in self.notes]}

    def to_json(self) -> str:
        """Return indented JSON, ASCII: names of files need not be valid Unicode."""
        data = {"format": SERIES_FORMAT, **records.to_plain(self)}
        return json.dumps(data, indent=1, sort_keys=True) + "\n"

    @classmethod
    def read(cls, path: Path) -> SeriesReference:
        """Read what `to_json` wrote.

        Raises:
            UnreadableScan: it is not there, or something else, or names files outside its source.
        """
        remedy = "run 'payerseg run' on the DICOM input"
        data = records.read(dict[str, Any], path, remedy, UnreadableScan)
        if data is None or data.pop("format", None) != SERIES_FORMAT:
            msg = f"{path.name} is no DICOM series file, or of another format version; {remedy}"
            raise UnreadableScan(msg)
        reference = records.convert(cls, data, path.name, remedy, UnreadableScan)
        outside = [name for name in reference.members if not _lies_below(name)]
        if outside:
            msg = (
                f"{path.name} names {outside[0]!r}, which is not below {reference.source}; {remedy}"
            )
            raise UnreadableScan(msg)
        return reference


def _lies_below(name: str) -> bool:
    """Tell whether a member's name stays in the folder that it is relative to."""
    pure = PurePosixPath(name.replace("\\", "/"))
    return not pure.is_absolute() and ".." not in pure.parts and "\0" not in name
