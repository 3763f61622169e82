"""Files that appear whole or not at all: a reader sees the old one or the complete new one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path, *, durable: bool = False) -> Iterator[Path]:
    """Give a temporary path beside `path`; on leaving, what was written there takes its place.

    The temporary name ends as the final one, by which writers choose a format, and is short, as `path`
    may use all the length that a name can have. Folders above are made. After a failure nothing is left.

    Args:
        path: the file to write, or a folder that is not there yet.
        durable: whether it must also outlive a power cut; costs a wait for the disk.

    Raises:
        OSError: it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # the process number, as several shards may write the same table at once
    temporary = path.with_name(f".{os.getpid()}.partial{''.join(path.suffixes[-2:])[-40:]}")
    try:
        yield temporary
        if durable:
            sync_file(temporary)
        temporary.replace(path)
    finally:
        if temporary.is_dir():  # a copied tree that did not come to its end
            shutil.rmtree(temporary)
        else:
            temporary.unlink(missing_ok=True)
    if durable:
        sync_folder(path.parent)


def write_text(path: Path, text: str, *, durable: bool = False) -> None:
    """Write UTF-8 text in one step; a name that is no valid Unicode is spelled with backslashes.

    Raises:
        OSError: it cannot be written.
    """
    with replacing(path, durable=durable) as temporary:
        temporary.write_bytes(text.encode("utf-8", "backslashreplace"))


def sync_file(path: Path) -> None:
    """Wait until a file's content is on the disk, so that no name can be left without content."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable, where the system can (Windows cannot open folders)."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
