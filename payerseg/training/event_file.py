"""TensorBoard event files, written without TensorFlow, so that every backend has them.

An event file is a sequence of records (length, masked CRC-32C of it, bytes, masked CRC-32C of them);
each record is an Event message in protocol-buffer encoding. Only what is needed is encoded: scalars
and PNG images.
"""

from __future__ import annotations

import os
import platform
import struct
import time
import zlib
from functools import cache
from pathlib import Path

import numpy as np

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_CASTAGNOLI = 0x82F63B78
_MASK_DELTA = 0xA282EAD8


class EventFile:
    """One event file; every record is flushed, so that a killed training loses none."""

    def __init__(self, folder: Path) -> None:
        """Open a new file; a resumed training adds a second one, which TensorBoard joins."""
        folder.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{time.time_ns() // 10**9}.{platform.node()}.{os.getpid()}"
        self._file = (folder / name).open("ab")
        self._record(_text(3, "brain.Event:2"))

    def scalar(self, tag: str, value: float, step: int) -> None:
        """Write one number."""
        summary = _text(1, tag) + _key(2, _FIXED32) + struct.pack("<f", value)
        self._value(summary, step)

    def image(self, tag: str, picture: np.ndarray, step: int) -> None:
        """Write one picture, (row, column) uint8 grey."""
        rows, columns = picture.shape
        encoded = (
            _number(1, rows) + _number(2, columns) + _number(3, 1) + _bytes(4, grey_png(picture))
        )
        self._value(_text(1, tag) + _bytes(4, encoded), step)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _value(self, value: bytes, step: int) -> None:
        self._record(_number(2, step) + _bytes(5, _bytes(1, value)))

    def _record(self, event: bytes) -> None:
        event = _key(1, _FIXED64) + struct.pack("<d", time.time()) + event
        length = struct.pack("<Q", len(event))
        self._file.write(length + _masked_crc(length) + event + _masked_crc(event))
        self._file.flush()


def grey_png(picture: np.ndarray) -> bytes:
    """Encode (row, column) uint8 as PNG."""
    rows, columns = picture.shape
    lines = np.concatenate([np.zeros((rows, 1), np.uint8), picture], axis=1).tobytes()
    header = struct.pack(">IIBBBBB", columns, rows, 8, 0, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(lines)), (b"IEND", b""))
    chunks = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def crc32c(data: bytes) -> int:
    """Return the CRC-32C (Castagnoli) of some bytes."""
    table, crc = _crc_table(), 0xFFFFFFFF
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


@cache
def _crc_table() -> tuple[int, ...]:
    out = []
    for value in range(256):
        crc = value
        for _ in range(8):
            crc = (crc >> 1) ^ (_CASTAGNOLI if crc & 1 else 0)
        out.append(crc)
    return tuple(out)


def _masked_crc(data: bytes) -> bytes:
    crc = crc32c(data)
    rotated = ((crc >> 15) | (crc << 17)) & 0xFFFFFFFF
    return struct.pack("<I", (rotated + _MASK_DELTA) & 0xFFFFFFFF)


def _varint(value: int) -> bytes:
    out = bytearray()
    while True:
        low, value = value & 0x7F, value >> 7
        out.append(low | (0x80 if value else 0))
        if not value:
            return bytes(out)


def _key(field: int, kind: int) -> bytes:
    return _varint(field << 3 | kind)


def _number(field: int, value: int) -> bytes:
    return _key(field, _VARINT) + _varint(value)


def _bytes(field: int, value: bytes) -> bytes:
    return _key(field, _BYTES) + _varint(len(value)) + value


def _text(field: int, value: str) -> bytes:
    return _bytes(field, value.encode())
