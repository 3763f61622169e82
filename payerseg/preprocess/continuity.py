"""Do slices follow each other? Missing, doubled, shuffled and blank ones are seen in the picture.

Neighbouring slices differ by about as much as the slices around them do. On 58 CTs with slices of 1 to 8 mm
a step between two neighbours, 15 mm or more from either end, was at most 1.9 times what 3 in 4 of the steps
around it are, and at most 4 % of the slices were more like the one after the next than like the next. A
stack that lacks 27 mm, or was put together of two, has steps of 3.2 and more.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from payerseg.domain.grid import Grid
from payerseg.domain.volume import Volume
from payerseg.imaging.scan_record import Note

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
    near = np.array([_step(a, b) for a, b in pairwise(seen)])
    far = np.array([_step(a, b) for a, b in zip(seen[:-2], seen[2:], strict=True)])

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


def _step(a: np.ndarray, b: np.ndarray) -> float:
    """Return by how much two slices differ where both show tissue; a face cut obliquely shows none."""
    both = np.minimum(a, b) > WINDOW_HU[0]
    return float(np.abs(a - b)[both].mean()) if both.any() else 0.0


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
