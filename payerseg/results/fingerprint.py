"""Content hashes: of files, trees, weights, and of everything a stage's result depends on.

Content, never paths or times: a results folder that was moved or copied stays fresh.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from payerseg import records
from payerseg.atomic import write_text
from payerseg.config.model_card import CARD_FILE, LEVELS_FOLDER, PRIOR_FILE, WEIGHTS_FILE
from payerseg.config.weights import checkpoint_prefix
from payerseg.domain.series_reference import SERIES_SUFFIX, SeriesReference
from payerseg.errors import ArtifactError, BundleError, UnreadableScan
from payerseg.results.case_folder import DRIVER_FOLDER

ABSENT = "absent"  # stands for the hash of what is not there
DIGEST_BYTES = 16
CHUNK_BYTES = 1 << 20
MEMO_FILE = "hashes.json"
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


Stamp = tuple[int, int, int, int]


def stamp_of(path: Path) -> Stamp:
    """Return what changes when another content is put at a path: size, times of content and inode, inode.

    Size and modification time alone can be given to any file; the inode and its own time cannot.

    Raises:
        OSError: it is not there.
    """
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino


class HashMemo:
    """Content hashes, remembered by path and stamp.

    It only saves reading and may be deleted at any time; one that is damaged is begun anew. An entry is
    made only if the file was already old when it was hashed: a later write could otherwise hide
    behind the same time stamp.
    """

    def __init__(self, path: Path | None = None) -> None:
        """Open a memo.

        Args:
            path: where it is kept; None keeps it in memory only. Entries below the folder above
                the file's own are relative to it, so that the memo survives a move.
        """
        self._path = path
        self._entries: dict[str, tuple[Stamp, str]] = {}
        self._changed = False
        if path is not None:
            with contextlib.suppress(ArtifactError):
                found = records.read(dict[str, tuple[Stamp, str]], path, "it will be written anew")
                self._entries = found or {}

    def digest(self, path: Path) -> str:
        """Return the hash of a file, or of a directory tree.

        Raises:
            OSError: it is not there or cannot be read.
        """
        if path.is_dir():
            files = sorted(item for item in path.rglob("*") if item.is_file())
            names = {str(item.relative_to(path).as_posix()): self.digest(item) for item in files}
            return text_digest(canonical_json(names))
        stamp, name = stamp_of(path), self._name(path)
        known = self._entries.get(name)
        if known is not None and known[0] == stamp:
            return known[1]
        now_ns = time.time_ns()
        found = file_digest(path)
        if now_ns - max(stamp[1:3]) > RACY_NS:
            self._entries[name] = stamp, found
            self._changed = True
        return found

    def save(self) -> None:
        """Write the memo to its file, if it has one and anything is new.

        Raises:
            OSError: it cannot be written, which costs the next run some reading.
        """
        if self._path is not None and self._changed:
            write_text(self._path, records.to_json(self._entries))
            self._changed = False

    def _name(self, path: Path) -> str:
        if self._path is not None and path.is_relative_to(self._path.parent.parent):
            return path.relative_to(self._path.parent.parent).as_posix()
        return str(path)


def results_memo(root: Path) -> HashMemo:
    """Open the hash memo of a results folder."""
    return HashMemo(root / DRIVER_FOLDER / MEMO_FILE)


def scan_digest(path: Path, memo: HashMemo) -> str:
    """Return the hash of a user's scan, with the separate data files its header names.

    Of a DICOM series it is the hash of the series' files (of a zip as a whole), wherever they lie.

    Raises:
        OSError: it is not there or cannot be read.
    """
    reference = _series_reference(path)
    files = scan_files(path)
    if reference is not None:
        digests = [memo.digest(item) if os.path.isfile(item) else ABSENT for item in files]
        return text_digest(canonical_json({"files": digests, **reference.content}))
    if len(files) == 1:
        return memo.digest(path)
    parts = [memo.digest(item) if os.path.isfile(item) else ABSENT for item in files]
    return text_digest(canonical_json(parts))


def scan_files(path: Path) -> list[Path]:
    """Return the files a scan consists of: itself, and the voxel data that its header names.

    Of a DICOM series these are the series' files, or the zip that holds them. None need exist.
    """
    reference = _series_reference(path)
    if reference is not None:
        return reference.files
    key, separator = DETACHED_DATA_KEYS.get(path.suffix.lower(), ("", ""))
    try:
        with path.open("rb") as file:
            header = file.read(HEADER_BYTES if key else 0).split(b"\n\n", 1)[0].decode("latin-1")
    except (OSError, ValueError):  # ValueError: a NUL in the name
        header = ""  # whoever reads it says why it cannot be read
    named = _detached_names(header.splitlines(), key, separator)
    return [path, *(path.parent / name for name in named)]


def scan_bytes(path: Path) -> int:
    """Return the size of all files of a scan; what is not there counts nothing."""
    return sum(item.stat().st_size for item in scan_files(path) if os.path.isfile(item))


def scan_exists(path: Path) -> bool:
    """Tell whether a scan is where it was: the file, or the folder or zip of a DICOM series."""
    reference = _series_reference(path)
    return os.path.exists(path if reference is None else reference.source)


def _series_reference(path: Path) -> SeriesReference | None:
    """Read a DICOM series file; one that cannot be read is the stage's to refuse, in its own words."""
    if path.suffix != SERIES_SUFFIX:
        return None
    try:
        return SeriesReference.read(path)
    except UnreadableScan:
        return None


def weights_digest(path: Path, memo: HashMemo) -> str:
    """Return the hash of a model bundle's folder, or of a checkpoint given by its prefix.

    Raises:
        BundleError: there is nothing of the kind, or it cannot be read.
    """
    files = _weights_files(path)
    if not files:
        msg = f"no weights at {path}; expected a folder with {CARD_FILE}, or a checkpoint's prefix"
        raise BundleError(msg)
    names = {
        item: item.relative_to(path).as_posix() if path.is_dir() else item.name for item in files
    }
    try:
        return text_digest(
            canonical_json({name: memo.digest(item) for item, name in names.items()})
        )
    except OSError as error:
        msg = f"the weights at {path} cannot be read ({error.strerror}); check their permissions"
        raise BundleError(msg) from error


def digest_of(path: Path, memo: HashMemo) -> str | None:
    """Return a file's or tree's hash, or None if it is not there."""
    try:
        return memo.digest(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        msg = f"cannot read {path}: {error.strerror}; expected a result of an earlier stage"
        raise ArtifactError(msg) from error


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
    parts = (CARD_FILE, WEIGHTS_FILE)
    bundle = [path / name for name in (*parts, PRIOR_FILE)]
    bundle += [path / LEVELS_FOLDER / name for name in parts]
    there = [item for item in bundle if os.path.isfile(item)]
    return there if bundle[0] in there else []
