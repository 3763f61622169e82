"""Which files of a folder, zip or single file are one scan: a DICOM series as one thing.

Standard library only: the driver reads it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from payerseg.errors import UnreadableScan

SERIES_SUFFIX = ".dicomseries"
SERIES_FORMAT = 1


@dataclass(frozen=True, slots=True)
class SeriesReference:
    """One scan that consists of many files.

    Attributes:
        source: absolute path of a folder, of a zip, or of a single file.
        members: the scan's files, names below the source with "/"; for a single file its own name.
        frames: member to the frames that belong to the scan, where a file holds others too.
        reason: why this series was chosen, for people.
    """

    source: Path
    members: tuple[str, ...]
    frames: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    reason: str = ""

    @property
    def files(self) -> list[Path]:
        """The files to be hashed: those of the series, or the whole zip."""
        if self.source.is_dir():
            return [self.source / name for name in self.members]
        return [self.source]

    @property
    def content(self) -> dict[str, object]:
        """What of the files is meant, independent of where they lie."""
        names = [] if self.source.is_dir() else list(self.members)
        return {"names": names, "frames": [list(self.frames.get(n, ())) for n in self.members]}

    def to_json(self) -> str:
        """Return indented JSON, ASCII: names of files need not be valid Unicode."""
        data = {"format": SERIES_FORMAT, **asdict(self), "source": str(self.source)}
        return json.dumps(data, indent=1, sort_keys=True) + "\n"

    @classmethod
    def read(cls, path: Path) -> SeriesReference:
        """Read what `to_json` wrote.

        Raises:
            UnreadableScan: it is something else.
            OSError: it is not there or cannot be read.
        """
        text = path.read_text(encoding="utf-8", errors="replace")
        try:
            data = json.loads(text)
            if data.pop("format") != SERIES_FORMAT:
                msg = f"{path.name} is of another format version; run 'payerseg run' on the DICOM input"
                raise UnreadableScan(msg)
            frames = {name: tuple(map(int, kept)) for name, kept in data["frames"].items()}
            members = tuple(map(str, data["members"]))
            return cls(Path(data["source"]), members, frames, str(data["reason"]))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            msg = f"{path.name} is no DICOM series file ({error!r}); run 'payerseg run' on the DICOM input"
            raise UnreadableScan(msg) from error
