"""Stored pixels of one frame: decoded, cleaned of bits that are none of theirs, padding taken as air."""

from __future__ import annotations

from collections.abc import Sequence
from typing import IO

import numpy as np
from pydicom import dcmread
from pydicom.dataset import FileDataset
from pydicom.pixels import iter_pixels, pixel_array
from pydicom.uid import UID

from payerseg.dicom.headers import DECODING_ERRORS, Frame, PixelFormat, quiet
from payerseg.dicom.source import HEAD_BYTES, MAGIC
from payerseg.errors import UnreadableScan

GROUP_2 = b"\x02\x00"
AIR_HU = -1024.0
PLAUSIBLE_HU = (-1024.0, 3071.0)
"""A padding value in this range (12 bits of CT) may be tissue as well, and is left as it is."""
PIXEL_ERRORS = (*DECODING_ERRORS, RuntimeError)
"""RuntimeError: a plugin could not decode."""


def read_pixels(file: IO[bytes], frames: Sequence[Frame]) -> list[np.ndarray]:
    """Decode frames of one file.

    Args:
        file: at its start.
        frames: of this very file, in any order.

    Returns:
        For each frame its stored values (row, column), in the type that the header promises.

    Raises:
        UnreadableScan: truncated or damaged pixel data.
    """
    member = frames[0].member
    try:
        with quiet():
            found = _decoded(file, frames)
    except PIXEL_ERRORS as error:  # its text may quote any part of the header
        what = f"{UID(frames[0].pixels.transfer_syntax).name}: {type(error).__name__}"
        msg = f"the pixels of {member} cannot be decoded ({what}); copy or export it again"
        raise UnreadableScan(msg) from None
    return [_checked(array, frame) for array, frame in zip(found, frames, strict=True)]


def clean_bits(stored: np.ndarray, pixels: PixelFormat) -> np.ndarray:
    """Keep the bits that belong to the pixel, sign included; others may hold overlays or rubbish."""
    bits = stored.dtype.itemsize * 8
    if pixels.stored >= bits and pixels.high_bit >= bits - 1:
        return stored
    kind = np.dtype(f"{'i' if pixels.signed else 'u'}{stored.dtype.itemsize}")
    native = not UID(pixels.transfer_syntax).is_compressed
    top = pixels.high_bit if native else pixels.stored - 1  # decoders right-align
    up = np.left_shift(stored.view(f"u{stored.dtype.itemsize}"), bits - 1 - top)
    return np.right_shift(up.view(kind), bits - pixels.stored)


def mask_padding(stored: np.ndarray, frame: Frame) -> tuple[np.ndarray, int]:
    """Take padding as air.

    Returns:
        The values, and how many were replaced. Padding that could be tissue is left alone.
    """
    if frame.pixels.padding is None:
        return stored, 0
    low, high = frame.pixels.padding
    slope = frame.slope or 1.0
    ends = sorted((low * slope + frame.intercept, high * slope + frame.intercept))
    if ends[1] >= PLAUSIBLE_HU[0] and ends[0] <= PLAUSIBLE_HU[1]:
        return stored, 0
    outside = (stored >= low) & (stored <= high)
    count = int(np.count_nonzero(outside))
    if not count:
        return stored, 0
    limits = np.iinfo(stored.dtype)
    air = int(np.clip(round((AIR_HU - frame.intercept) / slope), limits.min, limits.max))
    return np.where(outside, stored.dtype.type(air), stored), count


def to_hounsfield(stored: np.ndarray, frame: Frame) -> np.ndarray:
    """Return float32 values, by the frame's own rescaling."""
    slope = frame.slope if frame.slope is not None else 1.0
    return (stored * np.float64(slope) + frame.intercept).astype(np.float32)


def _decoded(file: IO[bytes], frames: Sequence[Frame]) -> list[np.ndarray]:
    syntax = UID(frames[0].pixels.transfer_syntax)
    source: IO[bytes] | FileDataset = file
    head = file.read(HEAD_BYTES)
    file.seek(0)
    # pydicom seeks pixels in the file only where it is not deflated, and says how it is written
    if syntax.is_deflated or not (head.endswith(MAGIC) or head.startswith(GROUP_2)):
        source = dcmread(file, force=True)
        source.file_meta.TransferSyntaxUID = syntax
    # where the high bit is not the topmost stored one, only `clean_bits` knows what to do
    correct = syntax.is_compressed
    if frames[0].index is None:
        return [pixel_array(source, raw=True, correct_unused_bits=correct)]
    indices = [frame.index or 0 for frame in frames]
    return list(iter_pixels(source, raw=True, correct_unused_bits=correct, indices=indices))


def _checked(array: np.ndarray, frame: Frame) -> np.ndarray:
    if array.shape != (frame.rows, frame.columns) or array.dtype.kind not in "iu":
        msg = (
            f"the pixels of {frame.member} are {array.shape} of type {array.dtype}; expected whole numbers "
            f"of {frame.rows} x {frame.columns}"
        )
        raise UnreadableScan(msg)
    return clean_bits(
        np.ascontiguousarray(array.astype(array.dtype.newbyteorder("="))), frame.pixels
    )
