"""Content hashes: of files, trees, weights, and of everything a stage's result depends on.

Content, never paths or times: a results folder that was moved or copied stays fresh.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from payerseg.config.model_card import CARD_FILE, PRIOR_FILE, WEIGHTS_FILE
from payerseg.config.weights import checkpoint_prefix
from payerseg.domain.series_reference import SERIES_SUFFIX, SeriesReference
from payerseg.errors import ArtifactError, BundleError, UnreadableScan

ABSENT = "absent"  # stands for the hash of what is not there
DIGEST_BYTES = 16
CHUNK_BYTES = 1 << 20
# A file younger than this when it was hashed may change again without a new time stamp (FAT: 2 s).
RACY_NS = 2_000_000_000
# Images that keep their voxels in a second file, and the header keys that name it.
DETACHED_DATA_KEYS = {
    ".mhd": ("elementdatafile", "="),
    ".nhdr": ("datafile", ":"),
    ".nrrd": ("datafile", ":"),
}
HEADER_BYTES = 1 << 16


def canonical_json(value: Any) -> str:
    """Return the one spelling of a JSON value: sorted keys, no spaces, no NaN.

    Raises:
        ValueError: a number is not finite.
    """
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=True
    )


def text_digest(text: str) -> str:
    """Return the hash of a text."""
    return hashlib.blake2b(text.encode(), digest_size=DIGEST_BYTES).hexdigest()


def file_digest(path: Path) -> str:
    """Return the hash of a file's content."""
    digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class KeyParts:
    """Everything a stage's result depends on by intent; devices and library versions are not.

    Attributes:
        stage, version: which code.
        config: its own settings as plain JSON, nothing else's.
        weights: their fingerprint, None for a stage without.
        seed: for everything random.
        inputs: name to content hash.
    """

    stage: str
    version: int
    config: Mapping[str, Any]
    weights: str | None
    seed: int
    inputs: Mapping[str, str]

    @property
    def key(self) -> str:
        """The hash of all parts."""
        return text_digest(canonical_json(asdict(self)))


class HashMemo:
    """Content hashes, remembered by path, size and modification time.

    It only saves reading and may be deleted at any time. An entry is made only if the file was
    already old when it was hashed: a later write could otherwise hide behind the same time stamp.
    """

    def __init__(self, path: Path | None = None) -> None:
        """Open a memo.

        Args:
            path: where it is kept; None keeps it in memory only. Entries below the folder above
                the file's own are relative to it, so that the memo survives a move.
        """
        self._path = path
        self._entries: dict[str, list[Any]] = {}
        self._changed = False
        if path is not None and path.is_file():
            self._entries = _read_memo(path)

    def digest(self, path: Path) -> str:
        """Return the hash of a file, or of a directory tree.

        Raises:
            OSError: it is not there or cannot be read.
        """
        if path.is_dir():
            files = sorted(item for item in path.rglob("*") if item.is_file())
            names = {str(item.relative_to(path).as_posix()): self.digest(item) for item in files}
            return text_digest(canonical_json(names))
        stat = path.stat()
        name = self._name(path)
        known = self._entries.get(name)
        if known and known[:2] == [stat.st_size, stat.st_mtime_ns]:
            return str(known[2])
        now_ns = time.time_ns()
        found = file_digest(path)
        if now_ns - stat.st_mtime_ns > RACY_NS:
            self._entries[name] = [stat.st_size, stat.st_mtime_ns, found]
            self._changed = True
        return found

    def save(self) -> None:
        """Write the memo to its file, if it has one and anything is new."""
        if self._path is None or not self._changed:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._path.with_name(f"{self._path.name}.{os.getpid()}.tmp")
        temporary.write_text(json.dumps(self._entries, indent=0, sort_keys=True), encoding="utf-8")
        temporary.replace(self._path)
        self._changed = False

    def _name(self, path: Path) -> str:
        if self._path is not None and path.is_relative_to(self._path.parent.parent):
            return path.relative_to(self._path.parent.parent).as_posix()
        return str(path)


def scan_digest(path: Path, memo: HashMemo) -> str:
    """Return the hash of a user's scan, with the separate data files its header names.

    Of a DICOM series it is the hash of the series' files (of a zip as a whole), wherever they lie.

    Raises:
        OSError: it is not there or cannot be read.
    """
    reference = _series_reference(path)
    files = scan_files(path)
    if reference is not None:
        digests = [memo.digest(item) if item.is_file() else ABSENT for item in files]
        return text_digest(canonical_json({"files": digests, **reference.content}))
    if len(files) == 1:
        return memo.digest(path)
    parts = [memo.digest(item) if item.is_file() else ABSENT for item in files]
    return text_digest(canonical_json(parts))


def scan_files(path: Path) -> list[Path]:
    """Return the files a scan consists of: itself, and the voxel data that its header names.

    Of a DICOM series these are the series' files, or the zip that holds them.
    """
    reference = _series_reference(path)
    if reference is not None:
        return reference.files
    key, separator = DETACHED_DATA_KEYS.get(path.suffix.lower(), ("", ""))
    if not key or not path.is_file():
        return [path]
    with path.open("rb") as file:
        header = file.read(HEADER_BYTES).split(b"\n\n", 1)[0].decode("latin-1")
    named = _detached_names(header.splitlines(), key, separator)
    return [path, *(path.parent / name for name in named)]


def scan_bytes(path: Path) -> int:
    """Return the size of all files of a scan; what is not there counts nothing."""
    return sum(item.stat().st_size for item in scan_files(path) if item.is_file())


def scan_exists(path: Path) -> bool:
    """Tell whether a scan is where it was: the file, or the folder or zip of a DICOM series."""
    reference = _series_reference(path)
    return path.exists() if reference is None else reference.source.exists()


def _series_reference(path: Path) -> SeriesReference | None:
    """Read a DICOM series file; one that cannot be read is the stage's to refuse, in its own words."""
    if path.suffix != SERIES_SUFFIX or not path.is_file():
        return None
    try:
        return SeriesReference.read(path)
    except (OSError, UnreadableScan):
        return None


def weights_digest(path: Path, memo: HashMemo) -> str:
    """Return the hash of a model bundle's folder, or of a checkpoint given by its prefix.

    Raises:
        BundleError: there is nothing of the kind.
    """
    files = _weights_files(path)
    if not files:
        msg = f"no weights at {path}; expected a folder with {CARD_FILE}, or a checkpoint's prefix"
        raise BundleError(msg)
    return text_digest(canonical_json({item.name: memo.digest(item) for item in files}))


def digest_of(path: Path, memo: HashMemo) -> str | None:
    """Return a file's or tree's hash, or None if it is not there."""
    try:
        return memo.digest(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        msg = f"cannot read {path}: {error.strerror}; expected a result of an earlier stage"
        raise ArtifactError(msg) from error


def _read_memo(path: Path) -> dict[str, list[Any]]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(found, dict):
        return {}
    return {
        name: entry for name, entry in found.items() if isinstance(entry, list) and len(entry) == 3
    }


def _detached_names(lines: list[str], key: str, separator: str) -> list[str]:
    for number, line in enumerate(lines):
        name, _, value = (part.strip() for part in line.partition(separator))
        if name.lower().replace(" ", "") != key or value.upper() in ("", "LOCAL"):
            continue
        if value.upper().startswith("LIST"):
            return [item.strip() for item in lines[number + 1 :] if item.strip()]
        return [value]
    return []


def _weights_files(path: Path) -> list[Path]:
    prefix = checkpoint_prefix(path)
    if prefix is not None:
        return [Path(f"{prefix}.index"), *sorted(prefix.parent.glob(f"{prefix.name}.data-*"))]
    bundle = [path / name for name in (CARD_FILE, WEIGHTS_FILE, PRIOR_FILE)]
    return [item for item in bundle if item.is_file()] if bundle[0].is_file() else []
