"""Where DICOM files lie: a folder tree, a zip, or one file; and does a file look like DICOM.

A zip is read in place, never unpacked: no name in it can lead anywhere (zip slip), nothing lands on the
disk, and memory is bounded by one member, whose size is checked before it is read (zip bomb).
Standard library only.
"""

from __future__ import annotations

import io
import os
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import IO

from payerseg.errors import UnreadableScan, UsageError

HEAD_BYTES = 132
MAGIC = b"DICM"
DIRECTORY_FILE = "DICOMDIR"
ZIP_ENDING = ".zip"
USUAL_ENDINGS = (".dcm", ".ima", ".dicom")
_BARE_STARTS = (b"\x02\x00\x00\x00UL", b"\x08\x00\x00\x00", b"\x08\x00\x01\x00", b"\x08\x00\x05\x00",
                b"\x08\x00\x08\x00", b"\x08\x00\x16\x00")  # fmt: skip
"""First elements of files written without preamble: group 2, or group 8 up to the SOP class."""
MAX_MEMBERS = 500_000
MAX_MEMBER_BYTES = 1 << 31
"""An enhanced CT of 2000 frames has half of this."""
MAX_TOTAL_BYTES = 1 << 39
MAX_RATIO = 200
"""A whole zip of CTs shrinks 2 to 10 times; deflate can reach 1032 with a bomb."""
MIN_SUSPICIOUS_BYTES = 1 << 28
_LEFT_ASIDE = ("__MACOSX",)
BROKEN_ZIP = (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, NotImplementedError)
"""What `zipfile` raises: RuntimeError for a password, NotImplementedError for a method it lacks."""


def is_dicom_head(head: bytes) -> bool:
    """Tell by the first `HEAD_BYTES` bytes whether a file may be DICOM, with or without a preamble."""
    return head[128:132] == MAGIC or head.startswith(_BARE_STARTS)


def is_dicom_file(path: Path) -> bool:
    """Tell whether a file may be DICOM; one that may not be read may be it: who reads it says why not."""
    try:
        with path.open("rb") as file:
            return is_dicom_head(file.read(HEAD_BYTES))
    except PermissionError:
        return True
    except OSError:
        return False


def is_dicom_source(path: Path) -> bool:
    """Tell whether a scan is to be looked for in DICOM: a folder, a zip, or a DICOM file."""
    return path.is_dir() or path.suffix.lower() == ZIP_ENDING or is_dicom_file(path)


def require_pydicom() -> None:
    """Refuse to go on without the extra.

    Raises:
        UsageError: pydicom is not installed; says how to install it.
    """
    if find_spec("pydicom") is None:
        msg = (
            "DICOM input needs pydicom, which is not installed; run: pip install 'payerseg[dicom]'"
        )
        raise UsageError(msg)


@dataclass(slots=True)
class DicomSource:
    """Open a folder, a zip or a file once, then read members by name; use as a context manager.

    Attributes:
        root: what was given.
        left_aside: what was not looked into, for people.

    Raises:
        UnreadableScan: the zip is damaged, encrypted, or larger than any study.
    """

    root: Path
    left_aside: list[str] = field(default_factory=list)
    _zip: zipfile.ZipFile | None = None

    def __enter__(self) -> DicomSource:
        """Open the zip, if it is one."""
        if self.root.suffix.lower() == ZIP_ENDING and self.root.is_file():
            self._zip = _open_zip(self.root)
        return self

    def __exit__(self, *_: object) -> None:
        """Close the zip."""
        if self._zip is not None:
            self._zip.close()
            self._zip = None

    def names(self) -> list[str]:
        """Return the names of all files, sorted, hidden ones and zips within left out."""
        if self._zip is not None:
            names = [item.filename for item in self._zip.infolist() if not item.is_dir()]
        elif self.root.is_dir():
            names = list(_walk(self.root, self.left_aside))
        else:
            return [self.root.name]
        shown = sorted({name for name in names if not _hidden(name)})
        packed = [name for name in shown if name.lower().endswith(ZIP_ENDING)]
        if packed and self._zip is not None:
            self.left_aside.append(f"{len(packed)} zip file(s) inside the zip; unpack them first")
        return [name for name in shown if not name.lower().endswith(ZIP_ENDING)]

    def size_bytes(self, name: str) -> int:
        """Return the size of a member, unpacked."""
        if self._zip is not None:
            return self._zip.getinfo(name).file_size
        return self._path(name).stat().st_size

    def is_dicom(self, name: str) -> bool:
        """Tell by its first bytes whether a member may be DICOM.

        Raises:
            UnreadableScan: it cannot be opened or unpacked.
        """
        try:
            with self._stream(name) as file:
                return is_dicom_head(file.read(HEAD_BYTES))
        except BROKEN_ZIP as error:
            raise UnreadableScan(_cannot_read(name, error)) from error

    @contextmanager
    def open(self, name: str) -> Iterator[IO[bytes]]:
        """Open a member for reading and seeking.

        Raises:
            UnreadableScan: it is not there, damaged, or too large to be an image.
        """
        try:
            size = self.size_bytes(name)
            if size > MAX_MEMBER_BYTES:
                msg = f"{name} has {size} bytes; expected at most {MAX_MEMBER_BYTES} for one image file"
                raise UnreadableScan(msg)
            file = self._stream(name)
            if self._zip is not None:  # seeking back in it would start again from its head
                with file:
                    file = io.BytesIO(file.read())
        except (*BROKEN_ZIP, KeyError) as error:
            raise UnreadableScan(_cannot_read(name, error)) from error
        with file:
            yield file

    def _stream(self, name: str) -> IO[bytes]:
        return self._zip.open(name) if self._zip is not None else self._path(name).open("rb")

    def _path(self, name: str) -> Path:
        return self.root / name if self.root.is_dir() else self.root


def _open_zip(path: Path) -> zipfile.ZipFile:
    try:
        archive = zipfile.ZipFile(path)
    except BROKEN_ZIP as error:
        msg = f"{path.name} is no readable zip ({_why(error)}); copy or download it again"
        raise UnreadableScan(msg) from error
    try:
        _check_zip(archive, path)
    except UnreadableScan:
        archive.close()
        raise
    return archive


def _check_zip(archive: zipfile.ZipFile, path: Path) -> None:
    """Refuse a zip that promises more than studies are, before anything of it is read."""
    items = [item for item in archive.infolist() if not item.is_dir()]
    total = sum(item.file_size for item in items)
    packed = max(1, path.stat().st_size)
    if any(item.flag_bits & 1 for item in items):
        msg = f"{path.name} is encrypted; unpack it first"
        raise UnreadableScan(msg)
    suspicious = total > MIN_SUSPICIOUS_BYTES and total / packed > MAX_RATIO
    if len(items) > MAX_MEMBERS or total > MAX_TOTAL_BYTES or suspicious:
        msg = (
            f"{path.name} ({packed} bytes) promises {len(items)} files of {total} bytes; expected at most "
            f"{MAX_MEMBERS} files and {MAX_RATIO} times its size. If it is a study, unpack it first"
        )
        raise UnreadableScan(msg)


def _walk(root: Path, left_aside: list[str]) -> Iterator[str]:
    """Yield names below a folder; linked folders are not followed, so there are no loops."""

    def tell(error: OSError) -> None:
        where = Path(error.filename).relative_to(root).as_posix()
        left_aside.append(f"the folder {where} cannot be read: {_why(error)}")

    for folder, subfolders, files in os.walk(root, onerror=tell):
        subfolders[:] = sorted(name for name in subfolders if not _hidden(name))
        below = Path(folder).relative_to(root)
        for name in files:
            if (Path(folder) / name).is_file():  # no pipe, no socket, no link to nothing
                yield (below / name).as_posix()


def _hidden(name: str) -> bool:
    last = name.rsplit("/", 1)[-1]
    return last.startswith(".") or any(part in _LEFT_ASIDE for part in name.split("/"))


def _cannot_read(name: str, error: Exception) -> str:
    cure = "give yourself the right to read it"
    if not isinstance(error, PermissionError):
        cure = "copy or export it again"
    return f"{name} cannot be read: {_why(error)}; {cure}"


def _why(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return text.splitlines()[0].lower()
