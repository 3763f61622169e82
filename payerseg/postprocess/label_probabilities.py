"""All classes at once to one probability per vertebra, so that one rule makes masks of both systems.

A voxel belongs to the class of the highest probability. Said per class: p / (p + rival), where rival
is the highest probability of another class, is above one half exactly there. That figure is what
`vertebra_masks` cleans, resamples and merges, as it does the output of a network of one vertebra.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from payerseg.domain.grid import Grid
from payerseg.domain.landmarks import Landmarks
from payerseg.domain.volume import Volume
from payerseg.errors import BundleError
from payerseg.postprocess.vertebra_masks import VertebraProbability

BACKGROUND = 0
CERTAIN_BACKGROUND = 0.99
"""Where the background is more probable than this, no class comes near one half."""


def label_probabilities(
    slabs: Iterable[Volume], region: Grid, landmarks: Landmarks, channels: Sequence[int]
) -> Iterator[VertebraProbability]:
    """Return the probability of each named vertebra against its strongest rival.

    A class whose vertebra has no landmark is no candidate: which vertebrae there are is decided by
    the landmarks, here as for the network of one vertebra.

    Args:
        slabs: softmax (z, y, x, class) on consecutive slabs that make up the region.
        region: the whole.
        landmarks: named vertebrae.
        channels: VerSe label of each class, 0 = background.

    Yields:
        One for each landmark, head to foot; all zero for a vertebra without a class (T13) or voxels.

    Raises:
        BundleError: no class is the background.
    """
    if BACKGROUND not in channels:
        msg = f"classes are {tuple(channels)}; expected one of them to be 0, the background"
        raise BundleError(msg)
    named = [v for v in landmarks if v.verse_label in channels]
    columns = [channels.index(BACKGROUND), *(channels.index(v.verse_label) for v in named)]
    rivals = _Rivals.empty(region)
    first = 0
    for slab in slabs:
        rivals.add(slab.array[..., columns], first)
        first += slab.grid.shape[0]
    blocks = rivals.blocks(len(named))
    for vertebra, mark in landmarks.items():
        number = named.index(vertebra) + 1 if vertebra in named else 0
        probability = rivals.probability(number, blocks.get(number))
        yield VertebraProbability(vertebra, probability, mark.position_mm)


@dataclass(slots=True)
class _Rivals:
    """The two most probable classes of every voxel, and the share of the first among the two.

    Attributes:
        region: where.
        first, second: class numbers, 0 = background, uint8 (z, y, x).
        share: float32 (z, y, x).
    """

    region: Grid
    first: np.ndarray
    second: np.ndarray
    share: np.ndarray

    @classmethod
    def empty(cls, region: Grid) -> _Rivals:
        """Return background everywhere."""
        nothing = np.zeros(region.shape, np.uint8)
        return cls(region, nothing, nothing.copy(), np.ones(region.shape, np.float32))

    def add(self, probability: np.ndarray, first_slice: int) -> None:
        """Take in a slab (z, y, x, class), the background first."""
        where = probability[..., 0] < CERTAIN_BACKGROUND
        rows = probability[where]
        if rows.shape[0] == 0 or rows.shape[1] < 2:
            return
        best = np.argpartition(rows, -2, axis=1)[:, :-3:-1]
        pair = np.take_along_axis(rows, best, axis=1)
        slab = slice(first_slice, first_slice + probability.shape[0])
        self.first[slab][where], self.second[slab][where] = best.T
        # classes without a landmark may have had all of it: then nobody has the voxel
        total = np.maximum(pair.sum(axis=1), np.finfo(np.float32).tiny)
        self.share[slab][where] = pair[:, 0] / total

    def blocks(self, n_classes: int) -> dict[int, tuple[slice, ...]]:
        """Return the block in which each class is first, with a margin for its soft rim."""
        found = ndimage.find_objects(self.first, max_label=n_classes)
        return {
            number: tuple(slice(max(0, s.start - 2), s.stop + 2) for s in block)
            for number, block in enumerate(found, start=1)
            if block is not None
        }

    def probability(self, number: int, block: tuple[slice, ...] | None) -> Volume:
        """Return one class against its strongest rival on a block, or nothing."""
        if block is None:
            return Volume(np.zeros((1, 1, 1), np.float32), self.region.window((0, 0, 0), (1, 1, 1)))
        share = self.share[block]
        second = np.where(self.second[block] == number, 1 - share, 0)
        array = np.where(self.first[block] == number, share, second).astype(np.float32)
        start = tuple(axis.start for axis in block)
        return Volume(array, self.region.window(start, array.shape))
