"""Randomness apart from action: draw a warp or an appearance from a seed, then apply it deterministically.

A warp maps output points to input points (the direction in which images are sampled); landmarks move
the other way. All points are (x, y, z) millimetres relative to the centre of the output block.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np
from scipy import ndimage

from payerseg.domain.volume import Volume

if TYPE_CHECKING:
    from payerseg.training.examples import BlockRecipe


Array = np.ndarray
INVERSE_STEPS = 12
AIR_HU = -1024.0


@dataclass(frozen=True, slots=True)
class WarpRanges:
    """How far a warp may go.

    Attributes:
        rotation_rad: largest angle about x, y, z.
        wide_rotation_rad: the same for a share `wide_p` of draws (a patient lying oddly).
        scale: lowest and highest isotropic scale of the anatomy (below 1 = a child).
        axis_scale: largest relative change per axis on top.
        shift_mm: largest shift per axis x, y, z.
        elastic_mm: SD of the displacement of the 6x6x6 nodes.
        flip_p: probabilities of mirroring x, y, z.
    """

    rotation_rad: tuple[float, float, float] = (0.25, 0.20, 0.12)
    wide_rotation_rad: float = 0.5
    wide_p: float = 0.25
    scale: tuple[float, float] = (0.85, 1.17)
    axis_scale: float = 0.07
    shift_mm: tuple[float, float, float] = (20.0, 20.0, 60.0)
    elastic_mm: float = 5.0
    flip_p: tuple[float, float, float] = (0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Warp:
    """An affine map followed by a smooth displacement, from output to input.

    Attributes:
        matrix: (3, 3), output mm to input mm.
        shift_mm: (3,) added after the matrix.
        nodes_mm: (6, 6, 6, 3) displacement nodes, index order (x, y, z), spread over the block.
        extent_mm: (3,) the block's size x, y, z over which the nodes lie.
    """

    matrix: Array = field(default_factory=lambda: np.eye(3))
    shift_mm: Array = field(default_factory=lambda: np.zeros(3))
    nodes_mm: Array | None = None
    extent_mm: Array = field(default_factory=lambda: np.ones(3))

    def map_points(self, xyz_mm: Array) -> Array:
        """Map (n, 3) output points to input points."""
        out = xyz_mm @ self.matrix.T + self.shift_mm
        return out if self.nodes_mm is None else out + self._displacement(xyz_mm, self.nodes_mm)

    def map_points_back(self, xyz_mm: Array) -> Array:
        """Map (n, 3) input points to output points (fixed-point inverse; error below 0.05 mm)."""
        inverse = np.linalg.inv(self.matrix)
        out = (xyz_mm - self.shift_mm) @ inverse.T
        if self.nodes_mm is None or len(xyz_mm) == 0:
            return out
        for _ in range(INVERSE_STEPS):
            out = (xyz_mm - self.shift_mm - self._displacement(out, self.nodes_mm)) @ inverse.T
        return out

    def map_lattice(self, shape_zyx: tuple[int, int, int], spacing_mm: float) -> Array:
        """Map the centres of a block's voxels; returns (3, z, y, x) input mm in x, y, z order."""
        axes = [(np.arange(n) - (n - 1) / 2) * spacing_mm for n in shape_zyx[::-1]]
        x, y, z = (a.astype(np.float32) for a in axes)
        m = self.matrix.astype(np.float32)
        out = np.stack(
            [
                m[k, 0] * x + m[k, 1] * y[:, None] + m[k, 2] * z[:, None, None] + self.shift_mm[k]
                for k in range(3)
            ]
        ).astype(np.float32)
        if self.nodes_mm is not None:
            wx, wy, wz = (
                _spline_weights(a, self.extent_mm[k], self.nodes_mm.shape[k])
                for k, a in enumerate(axes)
            )
            nodes = self.nodes_mm.astype(np.float32)
            part = np.tensordot(wz, nodes, axes=(1, 2))
            part = np.tensordot(wy, part, axes=(1, 2))
            out += np.moveaxis(np.tensordot(wx, part, axes=(1, 2)), (3, 2, 1, 0), (0, 1, 2, 3))
        return out

    def _displacement(self, xyz_mm: Array, nodes_mm: Array) -> Array:
        wx, wy, wz = (
            _spline_weights(xyz_mm[:, k], self.extent_mm[k], nodes_mm.shape[k]) for k in range(3)
        )
        return np.einsum("ni,nj,nk,ijkc->nc", wx, wy, wz, nodes_mm, optimize=True)


class DrawsWarps(Protocol):
    """Another way to draw warps than `WarpRanges`."""

    def draw_warp(self, rng: np.random.Generator, extent_mm: Array) -> Warp:
        """Draw a warp for a block of `extent_mm` (x, y, z)."""


def draw_warp(rng: np.random.Generator, ranges: WarpRanges | DrawsWarps, extent_mm: Array) -> Warp:
    """Draw a warp for a block of `extent_mm` (x, y, z)."""
    if not isinstance(ranges, WarpRanges):
        return ranges.draw_warp(rng, extent_mm)
    limits = np.asarray(ranges.rotation_rad)
    if rng.random() < ranges.wide_p:
        limits = np.full(3, ranges.wide_rotation_rad)
    angles = rng.uniform(-limits, limits)
    grow = rng.uniform(*ranges.scale) * rng.uniform(1 - ranges.axis_scale, 1 + ranges.axis_scale, 3)
    flip = np.where(rng.random(3) < ranges.flip_p, -1.0, 1.0)
    matrix = rotation_matrix(angles) @ np.diag(flip / grow)
    shift = rng.uniform(-1, 1, 3) * ranges.shift_mm
    nodes = rng.normal(0, ranges.elastic_mm, (6, 6, 6, 3)) if ranges.elastic_mm > 0 else None
    return Warp(matrix, shift, nodes, np.asarray(extent_mm, float))


def rotation_matrix(angles_rad: Array) -> Array:
    """Return the rotation about x, then y, then z."""
    (cx, cy, cz), (sx, sy, sz) = np.cos(angles_rad), np.sin(angles_rad)
    rx = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    ry = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    rz = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return rz @ ry @ rx


def _spline_weights(position_mm: Array, extent_mm: float, n_nodes: int) -> Array:
    """Return (n, nodes) uniform cubic B-spline weights; the nodes reach one mesh beyond the block."""
    cells = n_nodes - 3
    t = np.clip((position_mm / extent_mm + 0.5) * cells, 0, cells) + 1.0
    d = np.abs(t[:, None] - np.arange(n_nodes))
    near = 2 / 3 - d**2 + d**3 / 2
    far = np.clip(2 - d, 0, None) ** 3 / 6
    return np.where(d < 1, near, far).astype(np.float32)


def sample_warped(volume: Volume, lattice_mm: Array, about_mm: Array, order: int = 1) -> Array:
    """Sample a packed volume where a warp says.

    Args:
        volume: on an axis-aligned isotropic grid.
        lattice_mm: (3, z, y, x) points in x, y, z order, from `about_mm`.
        about_mm: (3,) in the volume's world.
        order: 1 linear, 0 nearest.

    Returns:
        (z, y, x) float32 (or the volume's type for order 0); air, or label 0, beyond the volume.
    """
    shape, spacing_mm = lattice_mm.shape[1:], volume.grid.spacing_mm[0]
    first = ((np.asarray(about_mm) - volume.grid.origin_mm) / spacing_mm)[::-1]
    index = (np.eye(3)[::-1] / spacing_mm).astype(np.float32) @ lattice_mm.reshape(3, -1)
    index += first.astype(np.float32)[:, None]
    return ndimage.map_coordinates(
        volume.array,
        index.reshape(3, *shape),
        output=np.float32 if order else volume.array.dtype,
        order=order,
        mode="constant",
        cval=AIR_HU if order else 0,
        prefilter=False,
    )


@dataclass(frozen=True, slots=True)
class AppearanceRanges:
    """How a scanner may change the picture; probabilities `_p`, sizes in HU, voxels or factors."""

    gain: tuple[float, float] = (0.85, 1.15)
    shift_hu: float = 60.0
    noise_hu: float = 60.0
    noise_p: float = 0.5
    blur_voxels: float = 0.8
    blur_p: float = 0.3
    slice_mm: tuple[float, float] = (2.0, 7.0)
    slice_p: float = 0.35
    sharpen_p: float = 0.1
    cap_hu: tuple[float, float] = (900.0, 2500.0)
    cap_p: float = 0.15


class ChangesAppearance(Protocol):
    """Another way to change intensities than `AppearanceRanges`."""

    def apply(self, rng: np.random.Generator, hu: Array) -> Array:
        """Return changed HU (z, y, x)."""


def apply_appearance(
    rng: np.random.Generator,
    hu: Array,
    ranges: AppearanceRanges | ChangesAppearance,
    spacing_mm: float,
) -> Array:
    """Return HU (z, y, x) as another scanner might have shown them."""
    if not isinstance(ranges, AppearanceRanges):
        return ranges.apply(rng, hu)
    if rng.random() < ranges.slice_p:
        thickness = rng.uniform(*ranges.slice_mm) / spacing_mm
        axis = 0 if rng.random() < 0.85 else int(rng.integers(1, 3))
        hu = ndimage.gaussian_filter1d(hu, max(thickness, 1.0) / np.sqrt(12), axis=axis)
    if rng.random() < ranges.blur_p:
        hu = ndimage.gaussian_filter(hu, rng.uniform(0.2, ranges.blur_voxels))
    elif rng.random() < ranges.sharpen_p:
        hu = hu + rng.uniform(0.3, 1.0) * (hu - ndimage.gaussian_filter(hu, 1.0))
    if rng.random() < ranges.noise_p:
        noise = rng.normal(0, 1, hu.shape).astype(np.float32)
        if rng.random() < 0.5:
            noise = ndimage.gaussian_filter(noise, 0.6) * 2.5
        hu = hu + noise * np.float32(rng.uniform(0, ranges.noise_hu))
    body = hu > -900
    hu = np.where(body, hu * rng.uniform(*ranges.gain) + rng.uniform(-1, 1) * ranges.shift_hu, hu)
    if rng.random() < ranges.cap_p:
        hu = np.minimum(hu, rng.uniform(*ranges.cap_hu))
    return hu.astype(np.float32)


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
