"""The level network over one scan: views along the spine, an answer for every place.

numpy and scipy only: a training judges its network by the same function.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from payerseg.config.model_card import ModelCard
from payerseg.domain.levels import N_OUTPUTS
from payerseg.inference.device import Forward

Array = np.ndarray
VIEW_STEP_MM = 75.0
"""Views stand this far apart: every place is seen by three or four, never only near a view's end."""
EDGE_VOXELS = 3.0
"""Places nearer to a view's face than this are not asked about there."""
PLACES_PER_VIEW = 48
"""Rows of places of one pass; more are asked about in a further one."""
MIDDLE_SD_VOXELS = 30.0
FAR_WEIGHT = 0.05
"""A view counts by how near its middle a place lies: exp(-(d / 30)^2) + 0.05."""
PATH_REACH_MM = 60.0


def read_levels(
    forward: Forward, card: ModelCard, hu: Array, origin_mm: Array, base_mm: float, points_mm: Array
) -> Array:
    """Ask the level network about places.

    Args:
        forward: of the card's network, compiled.
        card: of the level network.
        hu: (z, y, x) HU on an axis-aligned LPS grid, averaged down to `base_mm`.
        origin_mm: (3,) LPS of its first voxel's centre.
        base_mm: its isotropic spacing.
        points_mm: (n, 3) LPS.

    Returns:
        (n, `domain.levels.N_OUTPUTS`) logits, averaged over the views that show a place.
    """
    shape = np.asarray(card.network.shape_zyx)
    spacing, window = card.sampling.spacing_mm, card.sampling.window
    air = card.sampling.outside_hu
    sums, weights = np.zeros((len(points_mm), N_OUTPUTS)), np.zeros(len(points_mm))
    for center in view_centers(points_mm):
        first = center - (shape[::-1] - 1) / 2 * spacing
        places = ((points_mm - first) / spacing)[:, ::-1]
        seen = np.flatnonzero(
            np.all((places >= EDGE_VOXELS) & (places <= shape - 1 - EDGE_VOXELS), axis=1)
        )
        if not len(seen):
            continue
        start = ((first - origin_mm) / base_mm)[::-1]
        view = ndimage.affine_transform(
            hu, np.full(3, spacing / base_mm), start, tuple(shape),
            output=np.float32, order=1, mode="constant", cval=air, prefilter=False,
        )  # fmt: skip
        picture = np.clip(view * window.scale + window.shift, window.low, window.high)
        near = np.exp(-(((places[seen, 0] - (shape[0] - 1) / 2) / MIDDLE_SD_VOXELS) ** 2))
        answer = _asked(forward, picture[None, ..., None].astype(np.float32), places[seen])
        sums[seen] += (near + FAR_WEIGHT)[:, None] * answer
        weights[seen] += near + FAR_WEIGHT
    return (sums / np.maximum(weights, 1e-9)[:, None]).astype(np.float32)


def _asked(forward: Forward, picture: Array, places: Array) -> Array:
    """Return (n, outputs): places are padded to one size, so that a compiled pass serves all."""
    out = []
    for start in range(0, len(places), PLACES_PER_VIEW):
        part = places[start : start + PLACES_PER_VIEW]
        rows = np.zeros((1, PLACES_PER_VIEW, 3), np.float32)
        rows[0, : len(part)] = part
        out.append(np.asarray(forward(picture, rows))[0, : len(part)])
    return np.concatenate(out)


def view_centers(points_mm: Array) -> list[Array]:
    """Return centres (3,) of views that stand along the course of the places, top to bottom."""
    z = points_mm[:, 2]
    high, low = float(z.max()), float(z.min())
    count = int(np.ceil((high - low) / VIEW_STEP_MM)) + 1
    centers = []
    for at in np.linspace(high, low, count) if count > 1 else [(high + low) / 2]:
        near = np.abs(z - at) <= PATH_REACH_MM
        here = points_mm[near] if near.any() else points_mm[[int(np.argmin(np.abs(z - at)))]]
        middle = np.median(here[:, :2], axis=0)
        centers.append(np.array([*middle, at]))
    return centers
