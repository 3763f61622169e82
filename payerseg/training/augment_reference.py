"""The reference's augmentation, exactly: draw first, then apply; numpy only.

Draws are recorded in the reference's order, so that a run of the reference can be replayed
(REFERENCE.md section 6). Everything here works in millimetres, (x, y, z).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from payerseg.training.augment import Warp

N_NODES = 6
"""Control points of the elastic deformation per axis: 3 mesh cells of a cubic B-spline."""


@dataclass(frozen=True, slots=True)
class ReferenceRanges:
    """Half-widths of the uniform draws; stage 3 has its own (`STAGE3_RANGES`).

    Attributes:
        shift_mm: translation per axis.
        rotation_rad: per axis.
        scale: of the uniform and of the per-axis scales around 1.
        flip_x: probability of a left-right flip.
        elastic_mm: of every B-spline coefficient.
    """

    shift_mm: float = 30.0
    rotation_rad: float = 0.25
    scale: float = 0.15
    flip_x: float = 0.5
    elastic_mm: float = 25.0

    def draw_warp(self, rng: np.random.Generator, extent_mm: np.ndarray) -> Warp:
        """Draw a warp of a block around its centre, in the form the examples use."""
        return as_warp(draw_reference(rng, self), extent_mm)


STAGE3_RANGES = ReferenceRanges(shift_mm=10.0, rotation_rad=0.5)


@dataclass(frozen=True, slots=True)
class ReferenceDraws:
    """One augmentation's random numbers.

    Attributes:
        shift_mm: (3,).
        rotation_rad: (3,) around x, y, z.
        scale: uniform scale minus 1.
        axis_scale: (3,) minus 1.
        flip: (3,) 0 or 1.
        elastic_mm: (3, 6, 6, 6): axis, then nodes z, y, x.
    """

    shift_mm: np.ndarray
    rotation_rad: np.ndarray
    scale: float
    axis_scale: np.ndarray
    flip: np.ndarray
    elastic_mm: np.ndarray


def draw_reference(rng: np.random.Generator, ranges: ReferenceRanges) -> ReferenceDraws:
    """Draw one augmentation, in the reference's order."""
    shift = rng.uniform(-ranges.shift_mm, ranges.shift_mm, 3)
    rotation = rng.uniform(-ranges.rotation_rad, ranges.rotation_rad, 3)
    scale = float(rng.uniform(-ranges.scale, ranges.scale))
    axis_scale = rng.uniform(-ranges.scale, ranges.scale, 3)
    flip = (rng.uniform(size=3) < (ranges.flip_x, 0, 0)).astype(float)
    elastic = rng.uniform(-ranges.elastic_mm, ranges.elastic_mm, (3, N_NODES, N_NODES, N_NODES))
    return ReferenceDraws(shift, rotation, scale, axis_scale, flip, elastic)


def reference_rotation(angles_rad: np.ndarray) -> np.ndarray:
    """Return R3 R2 R1: R1 turns (y, z), R2 (x, z), R3 (x, y); blocks [[cos, sin], [-sin, cos]]."""
    out = np.eye(3)
    for angle, (i, j) in zip(angles_rad, ((1, 2), (0, 2), (0, 1)), strict=True):
        turn = np.eye(3)
        turn[i, i] = turn[j, j] = np.cos(angle)
        turn[i, j], turn[j, i] = np.sin(angle), -np.sin(angle)
        out = turn @ out
    return out


def as_warp(draws: ReferenceDraws, extent_mm: np.ndarray) -> Warp:
    """Return draws as the warp of a block, points relative to its centre.

    M(p + E(p)) = M p + M E(p): the displacement nodes are turned by the matrix. The node lattice
    lies half a voxel off the reference's, which starts at the first voxel's centre.
    """
    sign = np.where(draws.flip > 0, -1.0, 1.0)
    scale = sign * (1 + draws.axis_scale) * (1 + draws.scale)
    matrix = reference_rotation(draws.rotation_rad) * scale
    nodes = np.einsum("ab,bzyx->xyza", matrix, draws.elastic_mm)
    return Warp(matrix, np.asarray(draws.shift_mm, float), nodes, np.asarray(extent_mm, float))


def crop_center_mm(
    box_start_mm: np.ndarray, box_extent_mm: np.ndarray, field_mm: np.ndarray, crop: np.ndarray
) -> np.ndarray:
    """Return the centre of the stage-2 training crop, (3,) mm.

    Box start + (extent - 1) / 2 (the "- 1" is in mm, as the reference has it), moved by
    crop * max(0, extent - field): the field stays inside the box.
    """
    extent = np.asarray(box_extent_mm, float)
    room = np.maximum(0, extent - np.asarray(field_mm))
    return np.asarray(box_start_mm) + (extent - 1) / 2 + np.asarray(crop) * room


@dataclass(frozen=True, slots=True)
class ReferenceIntensity:
    """One intensity augmentation: gamma, shift and scale (minus 1)."""

    gamma: float = 1.0
    shift: float = 0.0
    scale: float = 0.0

    def __call__(self, hu: np.ndarray) -> np.ndarray:
        """Turn HU into network input.

        Gamma on the range of the values, / 2048, + shift, * (1 + scale), clipped to [-1, 1].

        Returns:
            float32, the shape of `hu`.
        """
        return np.clip(self.unclipped(hu), -1, 1).astype(np.float32)

    def unclipped(self, hu: np.ndarray) -> np.ndarray:
        """Return the same before clipping, float64."""
        value = np.asarray(hu, float)
        low, high = value.min(), value.max()
        if self.gamma != 1.0 and high > low:
            value = ((value - low) / (high - low)) ** self.gamma * (high - low) + low
        return (value / 2048 + self.shift) * (1 + self.scale)


@dataclass(frozen=True, slots=True)
class ReferenceAppearance:
    """The reference's intensity augmentation as a change of HU, before the window 1/2048, [-1, 1]."""

    def apply(self, rng: np.random.Generator, hu: np.ndarray) -> np.ndarray:
        """Return HU (z, y, x), not clipped: the window of the card does that."""
        draw = draw_reference_intensity(rng)
        return (draw.unclipped(hu) * 2048).astype(np.float32)


def draw_reference_intensity(rng: np.random.Generator) -> ReferenceIntensity:
    """Draw gamma U(0.9, 1.1), shift and scale U(-0.25, 0.25)."""
    gamma, shift, scale = rng.uniform((0.9, -0.25, -0.25), (1.1, 0.25, 0.25))
    return ReferenceIntensity(float(gamma), float(shift), float(scale))
