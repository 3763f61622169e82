"""Does a file look like DICOM, and is the library for it there? Standard library only."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from payerseg.errors import UsageError

HEAD_BYTES = 132
MAGIC = b"DICM"
DIRECTORY_FILE = "DICOMDIR"
ZIP_ENDING = ".zip"
_BARE_STARTS = (b"\x02\x00\x00\x00UL", b"\x08\x00\x00\x00", b"\x08\x00\x01\x00", b"\x08\x00\x05\x00",
                b"\x08\x00\x08\x00", b"\x08\x00\x16\x00")  # fmt: skip
"""First elements of files written without preamble: group 2, or group 8 up to the SOP class."""


def is_dicom_head(head: bytes) -> bool:
    """Tell by the first `HEAD_BYTES` bytes whether a file may be DICOM, with or without a preamble."""
    return head[128:132] == MAGIC or head.startswith(_BARE_STARTS)


def is_dicom_file(path: Path) -> bool:
    """Tell whether a file may be DICOM; one that cannot be opened is not."""
    try:
        with path.open("rb") as file:
            return is_dicom_head(file.read(HEAD_BYTES))
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
