"""8-bit pictures: read and written as PNG, put side by side, written upon."""

from __future__ import annotations

from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from payerseg.errors import ArtifactError

MODES = {(): "L", (3,): "RGB", (4,): "RGBA"}
NAME_PIXELS = 11
Color = tuple[int, int, int]


def encode_png(picture: np.ndarray) -> bytes:
    """Return the PNG file of a (row, column[, 3 or 4]) picture, the same bytes for the same one.

    Raises:
        ArtifactError: not uint8, or another shape.
    """
    mode = MODES.get(picture.shape[2:]) if picture.ndim >= 2 else None
    if picture.dtype != np.uint8 or mode is None:
        msg = (
            f"picture has shape {picture.shape} of {picture.dtype}; expected uint8, grey, RGB, RGBA"
        )
        raise ArtifactError(msg)
    file = BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    return file.getvalue()


def read_png(path: Path) -> np.ndarray:
    """Read (row, column) or (row, column, channel) uint8.

    Raises:
        ArtifactError: not a PNG, or a damaged one.
    """
    try:
        with Image.open(path, formats=("PNG",)) as image:
            return np.asarray(image)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        msg = f"{path} is not a readable PNG ({error})"
        raise ArtifactError(msg) from error


def write_name(
    drawing: ImageDraw.ImageDraw, at: tuple[float, float], name: str, fill: Color
) -> None:
    """Write a short text with a dark rim, its left end at (column, row), centred in height."""
    drawing.text(at, name, fill, _font(), anchor="lm", stroke_width=1, stroke_fill=(0, 0, 0))


def beside(pictures: list[np.ndarray], gap: int = 4) -> np.ndarray:
    """Put (row, column, 3) pictures side by side on black, tops aligned."""
    height = max(picture.shape[0] for picture in pictures)
    padded = [
        np.pad(picture, ((0, height - picture.shape[0]), (0, gap), (0, 0))) for picture in pictures
    ]
    return np.concatenate(padded, axis=1)[:, :-gap]


@cache
def _font() -> Any:
    return ImageFont.load_default(NAME_PIXELS)
