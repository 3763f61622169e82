"""A small picture to draw on: discs, lines and short labels, without a plotting library."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from payerseg.domain.colors import Rgb

# 5x7 dots per sign, one number per row, highest bit left: enough for vertebra names and short captions.
_GLYPHS = {
    "0": (14, 17, 19, 21, 25, 17, 14), "1": (4, 12, 4, 4, 4, 4, 14), "2": (14, 17, 1, 2, 4, 8, 31),
    "3": (31, 2, 4, 2, 1, 17, 14), "4": (2, 6, 10, 18, 31, 2, 2), "5": (31, 16, 30, 1, 1, 17, 14),
    "6": (6, 8, 16, 30, 17, 17, 14), "7": (31, 1, 2, 4, 8, 8, 8), "8": (14, 17, 17, 14, 17, 17, 14),
    "9": (14, 17, 17, 15, 1, 2, 12), "C": (14, 17, 16, 16, 16, 17, 14), "T": (31, 4, 4, 4, 4, 4, 4),
    "L": (16, 16, 16, 16, 16, 16, 31), "?": (14, 17, 1, 2, 4, 0, 4), "!": (4, 4, 4, 4, 4, 0, 4),
}  # fmt: skip
GLYPH_WIDTH, GLYPH_HEIGHT = 6, 7


class Canvas:
    """An RGB picture; positions are (row, column) with row 0 on top.

    Attributes:
        pixels: (rows, columns, 3) uint8.
    """

    def __init__(self, grey: np.ndarray) -> None:
        """Start from a (rows, columns) picture with values 0..255."""
        self.pixels = np.repeat(np.clip(grey, 0, 255).astype(np.uint8)[..., None], 3, axis=2)

    def tint(self, where: np.ndarray, color: Rgb, strength: float) -> None:
        """Blend a colour in where a (rows, columns) mask is true."""
        mixed = self.pixels[where] * (1 - strength) + np.asarray(color) * strength
        self.pixels[where] = mixed.astype(np.uint8)

    def disc(self, row: float, column: float, radius: float, color: Rgb) -> None:
        """Fill a disc with a dark rim, so that it shows on bone and on air."""
        rows, columns = np.ogrid[: self.pixels.shape[0], : self.pixels.shape[1]]
        distance = np.hypot(rows - row, columns - column)
        self.pixels[distance <= radius + 1] = 0
        self.pixels[distance <= radius] = color

    def rectangle(self, low: tuple[float, float], high: tuple[float, float], color: Rgb) -> None:
        """Draw the outline of a rectangle between two (row, column) corners, clipped to the picture."""
        top, left, bottom, right = np.rint([*low, *high]).astype(int)
        size = self.pixels.shape
        rows = slice(max(top, 0), min(bottom, size[0] - 1) + 1)
        columns = slice(max(left, 0), min(right, size[1] - 1) + 1)
        for row in (top, bottom):
            if 0 <= row < size[0]:
                self.pixels[row, columns] = color
        for column in (left, right):
            if 0 <= column < size[1]:
                self.pixels[rows, column] = color

    def text(self, row: float, column: float, words: str, color: Rgb) -> None:
        """Write known signs with a dark rim, top left at a position, clipped to the picture."""
        dots = np.concatenate([_dots(sign) for sign in words], axis=1)
        places = np.argwhere(dots) + np.rint([row, column]).astype(int)
        size = self.pixels.shape[:2]
        places = places[np.all((places >= 0) & (places < size), axis=1)]
        ink = np.zeros(size, bool)
        ink[tuple(places.T)] = True
        self.pixels[ndimage.binary_dilation(ink, np.ones((3, 3)))] = 0
        self.pixels[ink] = color


def _dots(sign: str) -> np.ndarray:
    """Return (7, 6) booleans; an unknown sign becomes a question mark."""
    rows = _GLYPHS.get(sign, _GLYPHS["?"])
    return np.array(
        [[bits >> (GLYPH_WIDTH - 2 - x) & 1 for x in range(5)] + [0] for bits in rows], bool
    )


def beside(pictures: list[np.ndarray], gap: int = 4) -> np.ndarray:
    """Put (rows, columns, 3) pictures side by side on black, tops aligned."""
    height = max(picture.shape[0] for picture in pictures)
    padded = [
        np.pad(picture, ((0, height - picture.shape[0]), (0, gap), (0, 0))) for picture in pictures
    ]
    return np.concatenate(padded, axis=1)[:, :-gap]
