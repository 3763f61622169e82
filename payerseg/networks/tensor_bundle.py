"""Read the variables of a TensorFlow checkpoint without TensorFlow.

A checkpoint PREFIX is two files: `PREFIX.index`, a sorted table (LevelDB's format, never compressed
by TensorFlow's writer) from variable name to a small protocol buffer with dtype, shape, place and
CRC-32C; and `PREFIX.data-00000-of-00001`, the values one after the other. Read here rather than by
`tf.train.load_checkpoint`, because that one kills the process (a failed CHECK, no exception) for a shape
below zero, beyond 2^63 or of more than 254 dimensions, a variable of strings, and an entry that is no
protocol buffer: tests/unit/networks/test_tensor_bundle.py has them. Here a damaged file is named by
variable, also where another backend is installed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from payerseg.errors import BundleError

TABLE_MAGIC = 0xDB4775248B80FB57
FOOTER_BYTES = 48
TRAILER_BYTES = 5
CRC_POLYNOMIAL = 0x82F63B78  # Castagnoli, bit-reversed
CRC_MASK_DELTA = 0xA282EAD8
MAX_INDEX_BYTES, MAX_NAME_BYTES, MAX_VARINT_BYTES = 1 << 24, 1 << 12, 10
"""An index has about 150 bytes a variable; what is beyond was made to take the memory or the day."""
VALUE_TYPES: dict[int, np.dtype[Any]] = {
    1: np.dtype("<f4"),
    2: np.dtype("<f8"),
    19: np.dtype("<f2"),
}
"""TensorFlow's DataType numbers of the float types that weights may have."""


@dataclass(frozen=True, slots=True)
class Entry:
    """Where one variable lies: dtype number, shape, shard, byte range, masked CRC-32C."""

    dtype: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    crc: int


class TensorBundle:
    """The variables of one checkpoint.

    Args:
        prefix: path without `.index`.

    Attributes:
        entries: variable name → where it lies.

    Raises:
        BundleError: not such a checkpoint, or a damaged index.
    """

    def __init__(self, prefix: Path) -> None:
        self.prefix = prefix
        index = Path(f"{prefix}.index")
        if not index.is_file():
            msg = f"{index} is missing; expected the prefix of a TensorFlow checkpoint"
            raise BundleError(msg)
        if index.stat().st_size > MAX_INDEX_BYTES:
            msg = f"{index} has more than {MAX_INDEX_BYTES >> 20} MiB; it is no index of a network"
            raise BundleError(msg)
        try:
            rows = dict(_table_rows(index.read_bytes()))
            header = dict(_fields(rows.pop(b"")))
            self.shards = int(header.get(1, 1))
            self.entries = {name.decode(): _entry(value) for name, value in rows.items()}
        except (IndexError, KeyError, TypeError, ValueError) as error:
            msg = f"{index} is damaged or no checkpoint index ({error!r}); copy it again"
            raise BundleError(msg) from error

    def read(self, name: str) -> np.ndarray:
        """Return one variable.

        Raises:
            BundleError: it is not there, not floating-point, cut off or altered.
        """
        if name not in self.entries:
            msg = f"{self.prefix} has no variable {name}"
            raise BundleError(msg)
        entry = self.entries[name]
        dtype = VALUE_TYPES.get(entry.dtype)
        if dtype is None or entry.size != math.prod(entry.shape) * dtype.itemsize:
            msg = f"{self.prefix}: {name} has type {entry.dtype}, {entry.size} bytes, not floats"
            raise BundleError(msg)
        data = Path(f"{self.prefix}.data-{entry.shard:05d}-of-{self.shards:05d}")
        if not data.is_file():
            msg = f"{data} is missing beside its index; copy all files of the checkpoint"
            raise BundleError(msg)
        raw = b""
        if entry.offset + entry.size <= data.stat().st_size:
            with data.open("rb") as file:
                file.seek(entry.offset)
                raw = file.read(entry.size)
        if len(raw) != entry.size:
            msg = f"{data} ends inside {name}: it is truncated; copy the checkpoint again"
            raise BundleError(msg)
        if mask_crc(crc32c(raw)) != entry.crc:
            msg = f"{data}: the checksum of {name} differs; copy the checkpoint again"
            raise BundleError(msg)
        return np.frombuffer(raw, dtype).reshape(entry.shape)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """Return a base-128 number and the place behind it."""
    value = 0
    for i in range(MAX_VARINT_BYTES):
        byte = data[at + i]
        value |= (byte & 0x7F) << 7 * i
        if byte < 0x80:
            return value, at + i + 1
    msg = "a number of more than 64 bits"
    raise ValueError(msg)


def _table_rows(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield every (key, value) of a sorted table."""
    footer = data[-FOOTER_BYTES:]
    if len(footer) < FOOTER_BYTES or int.from_bytes(footer[-8:], "little") != TABLE_MAGIC:
        msg = "no table footer"
        raise ValueError(msg)
    _, at = _varint(footer, 0)
    _, at = _varint(footer, at)
    offset, at = _varint(footer, at)
    size, at = _varint(footer, at)
    end = 0
    for _, handle in _block_rows(data, offset, size):
        start, at = _varint(handle, 0)
        size, _ = _varint(handle, at)
        if start < end:
            msg = "table blocks that overlap"
            raise ValueError(msg)
        end = start + size
        yield from _block_rows(data, start, size)


def _block_rows(data: bytes, offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield the (key, value) of one block; keys share a prefix with the key before."""
    block, trailer = data[offset : offset + size], data[offset + size :][:TRAILER_BYTES]
    if trailer[0] != 0:
        msg = "compressed table block"
        raise ValueError(msg)
    if mask_crc(crc32c(block + trailer[:1])) != int.from_bytes(trailer[1:], "little"):
        msg = "checksum of a table block"
        raise ValueError(msg)
    end = len(block) - 4 - 4 * int.from_bytes(block[-4:], "little")
    at, key = 0, b""
    while at < end:
        shared, at = _varint(block, at)
        fresh, at = _varint(block, at)
        length, at = _varint(block, at)
        key = key[:shared] + block[at : at + fresh]
        if len(key) > MAX_NAME_BYTES:
            msg = f"a name of more than {MAX_NAME_BYTES} bytes"
            raise ValueError(msg)
        at += fresh
        yield key, block[at : at + length]
        at += length


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """Yield (field number, integer or bytes) of a protocol buffer message."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        kind = tag & 7
        if kind == 0:
            value, at = _varint(data, at)
            yield tag >> 3, value
            continue
        if kind == 2:
            size, at = _varint(data, at)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            msg = f"wire type {kind}"
            raise ValueError(msg)
        raw, at = data[at : at + size], at + size
        yield tag >> 3, raw if kind == 2 else int.from_bytes(raw, "little")


def _entry(value: bytes) -> Entry:
    fields = dict(_fields(value))
    shape = tuple(
        dict(_fields(dim)).get(1, 0) for number, dim in _fields(fields.get(2, b"")) if number == 2
    )
    return Entry(fields[1], shape, *(fields.get(number, 0) for number in (3, 4, 5, 6)))


def mask_crc(crc: int) -> int:
    """Return a CRC as tables store it: rotated and offset."""
    return (((crc >> 15) | (crc << 17)) + CRC_MASK_DELTA) & 0xFFFFFFFF


def _byte_table() -> np.ndarray:
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, (table >> 1) ^ np.uint32(CRC_POLYNOMIAL), table >> 1)
    return table


def crc32c(data: bytes) -> int:
    """Return the CRC-32C of some bytes.

    Rows of about sqrt(n) bytes advance side by side in numpy; their results are then joined, as
    appending n bytes changes a CRC by a linear map. A loop over bytes would take minutes.
    """
    table = _byte_table()
    width = max(1, math.isqrt(len(data)))
    rows = np.frombuffer(data, np.uint8)[: len(data) // width * width].reshape(-1, width)
    crcs = np.zeros(len(rows), np.uint32)
    basis = np.uint32(1) << np.arange(32, dtype=np.uint32)
    for column in range(width):
        crcs = table[(crcs ^ rows[:, column]) & 0xFF] ^ (crcs >> 8)
        basis = table[basis & 0xFF] ^ (basis >> 8)
    images = [int(v) for v in basis]
    state = 0xFFFFFFFF
    for crc in crcs.tolist():
        moved = 0
        for bit, image in enumerate(images):
            if state >> bit & 1:
                moved ^= image
        state = moved ^ crc
    for byte in data[rows.size :]:
        state = int(table[(state ^ byte) & 0xFF]) ^ (state >> 8)
    return state ^ 0xFFFFFFFF
