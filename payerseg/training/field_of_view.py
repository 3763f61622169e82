"""Simulated short and narrow scans: what a smaller field of view would not show is blanked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from payerseg.training.augment import AIR_HU

if TYPE_CHECKING:
    from payerseg.training.examples import BlockRecipe

Array = np.ndarray


def simulate_field_of_view(
    hu: Array, marks: Array, rng: np.random.Generator, recipe: BlockRecipe
) -> Array:
    """Blank what a shorter or narrower scan would not show, in place.

    Returns:
        Per mark 1 = visible, 0.5 = on the cut, 0 = outside.
    """
    depth = np.full(len(marks), np.inf)
    half = np.asarray(recipe.shape_zyx[::-1]) * recipe.spacing_mm / 2
    inside = np.flatnonzero(np.all(np.abs(marks[:, 1:]) < half, axis=1))
    if len(inside) == 0:
        return np.ones(len(marks))
    x, y, z = ((np.arange(n) - (n - 1) / 2) * recipe.spacing_mm for n in hu.shape[::-1])
    anchor = marks[inside[int(rng.integers(len(inside)))], 1:]
    if rng.random() < recipe.slab_p:
        height = rng.uniform(*recipe.slab_mm)
        low = anchor[2] - rng.uniform(0.1, 0.9) * height
        hu[(z < low) | (z > low + height)] = AIR_HU
        depth = np.minimum(depth, np.minimum(marks[:, 3] - low, low + height - marks[:, 3]))
    if rng.random() < recipe.narrow_p:
        margin = rng.uniform(*recipe.narrow_mm, 4)
        near = marks[inside, 1:3]
        (x0, y0), (x1, y1) = near.min(axis=0) - margin[:2], near.max(axis=0) + margin[2:]
        hu[:, :, (x < x0) | (x > x1)] = AIR_HU
        hu[:, (y < y0) | (y > y1 + 20)] = AIR_HU
    if rng.random() < recipe.round_p:
        radius = rng.uniform(*recipe.round_mm)
        middle = marks[inside, 1:3].mean(axis=0) + rng.uniform(-0.5, 0.5, 2) * radius
        away = np.hypot(x - middle[0], (y - middle[1])[:, None])
        hu[:, away > radius] = AIR_HU
        depth = np.minimum(depth, radius - np.hypot(*(marks[:, 1:3] - middle).T))
    margin_mm = recipe.cut_margin_mm
    return np.where(depth > margin_mm, 1.0, np.where(depth < -margin_mm, 0.0, 0.5))
