"""PNG pictures: 8-bit grey or colour, the same bytes for the same picture."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from payerseg.errors import ArtifactError

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_COLOUR_TYPES = {1: 0, 3: 2, 4: 6}


def write_png(picture: np.ndarray, path: Path) -> None:
    """Write (row, column) grey, (row, column, 3) colour or (row, column, 4) with opacity, uint8.

    Raises:
        ArtifactError: another shape or type.
    """
    path.write_bytes(encode_png(picture))


def encode_png(picture: np.ndarray) -> bytes:
    """Return the bytes of a PNG file; see `write_png`."""
    channels = 1 if picture.ndim == 2 else picture.shape[-1]
    if picture.dtype != np.uint8 or picture.ndim not in (2, 3) or channels not in _COLOUR_TYPES:
        msg = (
            f"picture has shape {picture.shape} of {picture.dtype}; expected uint8, grey, RGB, RGBA"
        )
        raise ArtifactError(msg)
    height, width = picture.shape[:2]
    rows = picture.reshape(height, width * channels)
    unfiltered = np.concatenate([np.zeros((height, 1), np.uint8), rows], axis=1)
    head = struct.pack(">IIBBBBB", width, height, 8, _COLOUR_TYPES[channels], 0, 0, 0)
    pixels = zlib.compress(unfiltered.tobytes(), 6)
    chunks = [_chunk(b"IHDR", head), _chunk(b"IDAT", pixels), _chunk(b"IEND", b"")]
    return _SIGNATURE + b"".join(chunks)


def read_png(path: Path) -> np.ndarray:
    """Read (row, column) or (row, column, channel) uint8.

    Raises:
        ArtifactError: not a PNG.
    """
    try:
        return sitk.GetArrayFromImage(sitk.ReadImage(str(path), imageIO="PNGImageIO"))
    except RuntimeError as error:
        msg = f"{path} is not a readable PNG"
        raise ArtifactError(msg) from error


def _chunk(kind: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)
