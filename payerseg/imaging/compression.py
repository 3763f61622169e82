"""Gzip streams: fast, deterministic when writing, distrustful when reading."""

from __future__ import annotations

import struct
from io import BufferedIOBase
from pathlib import Path
from typing import cast

import numpy as np
from isal import igzip, igzip_threaded, isal_zlib

from payerseg.errors import UnreadableScan

GZIP_MAGIC = b"\x1f\x8b"
MAX_RATIO = 1100
"""Deflate cannot expand a byte to more than 1032; a header that claims more is lying."""
_WRITER_THREADS = 2
_SCAN_LEVEL = 2
"""Level of ISA-L, 0..3: 2 writes a CT at about 0.3 GB/s of one core (docs: shared I/O measurements)."""
_BROKEN_STREAM = (EOFError, OSError, cast("type[Exception]", isal_zlib.error), struct.error)


def is_gzip(path: Path) -> bool:
    """Tell by its first two bytes whether a file is a gzip stream."""
    with path.open("rb") as file:
        return file.read(2) == GZIP_MAGIC


def read_head(path: Path, n_bytes: int) -> bytes:
    """Return up to the first `n_bytes` of a file's content, decompressed if it is a gzip stream.

    Raises:
        UnreadableScan: the stream breaks before that.
    """
    if not is_gzip(path):
        with path.open("rb") as file:
            return file.read(n_bytes)
    try:
        with igzip.open(path, "rb") as file:
            return file.read(n_bytes)
    except _BROKEN_STREAM as error:
        msg = f"{path.name} breaks off or is damaged ({error}); copy or export the file again"
        raise UnreadableScan(msg) from error


def read_exactly(path: Path, start: int, n_bytes: int) -> tuple[np.ndarray, int]:
    """Return bytes [start, start + n_bytes) of a file's content as a writable uint8 array.

    The checksum of a gzip stream is verified where the stream ends there.

    Returns:
        The bytes, and how many more bytes follow (counted up to 1 MiB).

    Raises:
        UnreadableScan: the content is shorter, or damaged.
    """
    zipped = is_gzip(path)
    _refuse_impossible_size(path, start + n_bytes, zipped=zipped)
    buffer = np.empty(n_bytes, np.uint8)
    opener = igzip_threaded.open if zipped else open
    try:
        with opener(path, "rb") as file:
            file.read(start)
            filled = _fill(file, memoryview(buffer))
            surplus = len(file.read(1 << 20))
    except _BROKEN_STREAM as error:
        surplus = _read_first_stream(path, start, buffer)
        if not surplus:
            msg = f"{path.name} breaks off or is damaged ({error}); copy or export the file again"
            raise UnreadableScan(msg) from error
        filled = n_bytes
    if filled < n_bytes:
        msg = (
            f"{path.name} holds {start + filled} bytes, its header promises {start + n_bytes}; "
            "the file is truncated, copy or export it again"
        )
        raise UnreadableScan(msg)
    return buffer, surplus


def write_bytes(path: Path, parts: list[bytes | memoryview], *, compress: bool) -> None:
    """Write parts one after the other, gzipped if asked.

    The same content always gives the same bytes: no name, no time, and blocks that do not depend
    on the number of threads.
    """
    if not compress:
        with path.open("wb") as file:
            for part in parts:
                file.write(part)
        return
    with igzip_threaded.open(
        path, "wb", compresslevel=_SCAN_LEVEL, threads=_WRITER_THREADS, block_size=1 << 20
    ) as stream:
        for part in parts:
            stream.write(part)


def _read_first_stream(path: Path, start: int, buffer: np.ndarray) -> int:
    """Fill `buffer` from a sound gzip stream with rubbish behind it.

    Returns:
        How many bytes follow; 0 where there is no such stream, or its checksum is wrong.
    """
    stream = isal_zlib.decompressobj(31)
    try:
        found = stream.decompress(path.read_bytes(), start + len(buffer))[start:]
        rest = stream.decompress(stream.unconsumed_tail, 1 << 20)
    except _BROKEN_STREAM:
        return 0
    if not stream.eof or len(found) < len(buffer):
        return 0
    buffer[:] = np.frombuffer(found, np.uint8)
    return len(rest) + len(stream.unused_data)


def _fill(file: BufferedIOBase, target: memoryview) -> int:
    """Read into `target` until it is full or the file ends; return the bytes read."""
    filled = 0
    while filled < len(target):
        count = file.readinto(target[filled : filled + (1 << 24)])
        if not count:
            break
        filled += count
    return filled


def _refuse_impossible_size(path: Path, promised: int, *, zipped: bool) -> None:
    on_disk = path.stat().st_size
    possible = on_disk * MAX_RATIO if zipped else on_disk
    if promised > possible:
        msg = (
            f"{path.name} has {on_disk} bytes on disk, its header promises {promised}; "
            "the file is truncated or its header is damaged"
        )
        raise UnreadableScan(msg)
