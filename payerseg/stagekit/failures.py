"""From an exception to what is said about it: a kind for machines, a message for people."""

from __future__ import annotations

import errno
import traceback
from dataclasses import dataclass

from payerseg.errors import OutOfResources, PayersegError

DISK_ERRORS = {errno.ENOSPC: "the disk is full", errno.EDQUOT: "the disk quota is used up"}
# Raised by the engines under Keras, which this room does not import.
MEMORY_ERROR_NAMES = frozenset({"ResourceExhaustedError", "OutOfMemoryError"})
OUT_OF_MEMORY_KIND = "out_of_memory"
BUG_KIND = "bug"


@dataclass(frozen=True, slots=True)
class Failure:
    """Why something failed; `kind` is a `PayersegError.kind`, "out_of_memory", or "bug"."""

    kind: str
    message: str
    traceback: str


def describe_failure(error: BaseException, memory_hint: str = "") -> Failure:
    """Say what an exception means.

    Args:
        error: as caught.
        memory_hint: which settings would need less memory.
    """
    details = "".join(traceback.format_exception(error))
    if isinstance(error, PayersegError):
        return Failure(error.kind, str(error), details)
    if isinstance(error, MemoryError) or type(error).__name__ in MEMORY_ERROR_NAMES:
        hint = memory_hint or "close other programs or use a smaller scan"
        message = f"memory ran out ({type(error).__name__}); {hint}; nothing is retried by itself"
        return Failure(OUT_OF_MEMORY_KIND, message, details)
    if isinstance(error, OSError) and error.errno in DISK_ERRORS:
        where = f" while writing {error.filename}" if error.filename else ""
        message = (
            f"{DISK_ERRORS[error.errno]}{where}; free some space and run the same command again; "
            "everything already complete is kept"
        )
        return Failure(OutOfResources.kind, message, details)
    return Failure(BUG_KIND, f"{type(error).__name__}: {error}", details)
