"""Do slices follow each other? Missing, doubled, shuffled, blank and interleaved ones show in the picture.

Neighbouring slices differ by about as much as the slices around them do. On 58 CTs with slices of 1 to 8 mm
a step between two neighbours, 15 mm or more from either end, was at most 1.9 times what 3 in 4 of the steps
around it are, and at most 4 % of the slices were more like the one after the next than like the next. A
stack that lacks 27 mm, or was put together of two, has steps of 3.2 and more.
"""

from __future__ import annotations

from itertools import groupby

import numpy as np

from payerseg.domain.grid import Grid
from payerseg.domain.volume import Volume
from payerseg.imaging.scan_record import Note

ALTERNATING = 1.25
"""Neighbours differ by this much more than next neighbours do where two stacks are interleaved; in a
body both grow with the distance, and in noise both are equal."""
MIN_RUN = 5
_PIXELS = 96
"""Slices of stored values are compared on so many pixels along each side at most."""
WINDOW_HU = (-300.0, 400.0)
RASTER_MM = 3.0
AROUND = 9
JUMP = 2.5
MIN_JUMP_HU = 40.0
NOISE_HU = 10.0
"""Slices of a scanner differ at least by this; equal ones of a phantom without noise are not doubled."""
END_MM = 15.0
"""Faces that were cut obliquely, and the top of the head, change faster."""
SHUFFLED_PARTS = {1.0: 0.25, 1.1: 0.1}
"""Parts of the slices whose next is this many times as far away as the one after it."""
MIN_SLICES = 12
_SEVERAL = 3


def interleaves(array: np.ndarray) -> bool:
    """Tell whether slices (z, y, x) are of two bodies in turn: every second one fits, neighbours do not.

    Args:
        array: HU, or values as they are stored.
    """
    if len(array) < MIN_RUN + 2:
        return False
    rows, columns = (max(1, size // _PIXELS) for size in array.shape[1:])
    seen = array[:, ::rows, ::columns]
    near, far = _differences(seen, 1), _differences(seen, 2)
    alternates = np.minimum(near[:-1], near[1:]) > ALTERNATING * far
    return any(turns and sum(1 for _ in run) >= MIN_RUN for turns, run in groupby(alternates))


def continuity_notes(ct: Volume) -> list[Note]:
    """Tell of every break in the sequence of transverse slices.

    Args:
        ct: (z, y, x) HU, canonical order.
    """
    slices = ct.array
    across = np.asarray(ct.grid.spacing_mm[1::-1])
    steps = np.maximum(1, np.rint(RASTER_MM / across)).astype(int)
    seen = np.clip(slices[:, :: steps[0], :: steps[1]], *WINDOW_HU).astype(np.float32)
    flat = np.ptp(seen, axis=(1, 2)) == 0
    first, last = np.flatnonzero(~flat)[[0, -1]] if not flat.all() else (0, -1)
    if last - first < MIN_SLICES:
        return []
    seen, flat = seen[first : last + 1], flat[first : last + 1]
    near, far = (_differences(seen, distance, WINDOW_HU[0]) for distance in (1, 2))

    def at(indices: np.ndarray | list[int]) -> str:
        return _told(ct.grid, np.asarray(indices) + first)

    notes = []
    if flat.any():
        message = f"{flat.sum()} blank slices lie inside the scan ({at(flat.nonzero()[0])})"
        notes.append(Note("blank_slices", message, review=True))
    noisy = np.median(near[near > 0]) > NOISE_HU if near.any() else False
    alike = np.flatnonzero((near == 0) & ~flat[1:] & noisy)
    doubled = [int(k) for k in alike if np.array_equal(slices[first + k], slices[first + k + 1])]
    if doubled:
        message = f"{len(doubled)} slices equal their neighbour ({at(doubled)}): doubled"
        notes.append(Note("doubled_slices", message, review=True))
    moving = ~flat[:-2] & ~flat[1:-1] & (near[:-1] > 0)
    if _are_shuffled(near[:-1][moving], far[moving]):
        message = "the slices are not in order: many are more like the one after the next"
        return [*notes, Note("shuffled_slices", message, review=True)]
    ends = int(np.ceil(END_MM / ct.grid.spacing_mm[2]))
    jumps = [k for k in _jumps(near, ends) if not flat[k] and not flat[k + 1]]
    if jumps:
        message = (
            f"the picture jumps between two slices ({at(jumps)}): slices are missing, out of "
            "order, or of another scan"
        )
        notes.append(Note("slice_jump", message, review=True))
    return notes


def _differences(seen: np.ndarray, distance: int, floor: float = -np.inf) -> np.ndarray:
    """Return the mean absolute difference of slices k and k + distance where both lie above a floor.

    A face that was cut obliquely shows nothing above that of tissue, and differs by 0.
    """

    def step(a: np.ndarray, b: np.ndarray) -> float:
        both = np.minimum(a, b) > floor
        apart = np.abs(np.subtract(b, a, dtype=np.float32))[both]
        return float(apart.mean()) if apart.size else 0.0

    pairs = zip(seen[:-distance], seen[distance:], strict=True)
    return np.array([step(a, b) for a, b in pairs])


def _are_shuffled(near: np.ndarray, far: np.ndarray) -> bool:
    """Tell whether many slices are more like the one after the next; more than noise would make it."""
    parts = SHUFFLED_PARTS.items()
    return len(near) > 0 and all(np.mean(near > ratio * far) > part for ratio, part in parts)


def _jumps(near: np.ndarray, ends: int) -> list[int]:
    """Return the steps far larger than those around them, `ends` or more steps inside."""
    found = []
    for k in range(ends, len(near) - ends):
        around = np.concatenate([near[max(0, k - AROUND) : k], near[k + 1 : k + 1 + AROUND]])
        usual = np.percentile(around, 75, method="lower")
        if near[k] > max(MIN_JUMP_HU, JUMP * usual):
            found.append(k)
    return found


def _told(grid: Grid, indices: np.ndarray) -> str:
    """Return where the steps behind slices lie, in words."""
    zyx = np.tile((np.asarray(grid.shape) - 1) / 2, (len(indices), 1))
    zyx[:, 0] = indices + 0.5
    values = ", ".join(f"{z:.0f}" for z in grid.map_indices_to_world(zyx[:_SEVERAL])[:, 2])
    more = f" and {len(indices) - _SEVERAL} more" if len(indices) > _SEVERAL else ""
    return f"at z = {values} mm{more}"
