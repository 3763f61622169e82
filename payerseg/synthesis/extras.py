"""What else is in a scan: screws and cement with their streaks, gas in discs, wires, a table, arms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy import ndimage

from payerseg.domain.grid import Grid
from payerseg.synthesis.outline import capsules
from payerseg.synthesis.poses import PosedVertebra

Array = np.ndarray
METAL_HU = 8000.0
NOTHING_MM = -12.7


@dataclass(frozen=True, slots=True)
class Extras:
    """Which extras a scan has.

    Attributes:
        screws_at: index of the first of the posed vertebrae with pedicle screws, None = no screws.
        screws_over: how many vertebrae they span.
        cement_in: index of a cemented vertebra.
        gas_discs: indices of vertebrae with gas in the disc below.
        wires: thin metal wires on the skin.
        table: whether the patient lies on a visible table.
        arms: whether arms lie at the sides.
        round_view: radius of a circular field of view, share of the half width, None = full.
    """

    screws_at: int | None = None
    screws_over: int = 2
    cement_in: int | None = None
    gas_discs: tuple[int, ...] = ()
    wires: int = 0
    table: bool = False
    arms: bool = False
    round_view: float | None = None

    @classmethod
    def draw(cls, count: int, rng: np.random.Generator) -> Extras:
        """Draw usual extras for `count` vertebrae: most scans have a table and nothing else."""
        screws = rng.random() < 0.06 and count > 3
        return cls(
            screws_at=int(rng.integers(1, count - 2)) if screws else None,
            screws_over=int(rng.integers(2, 5)),
            cement_in=int(rng.integers(count)) if rng.random() < 0.03 else None,
            gas_discs=tuple(int(k) for k in np.flatnonzero(rng.random(count) < 0.03)),
            wires=int(rng.integers(1, 4)) if rng.random() < 0.12 else 0,
            table=bool(rng.random() < 0.75),
            arms=bool(rng.random() < 0.2),
            round_view=float(rng.uniform(0.9, 1.15)) if rng.random() < 0.2 else None,
        )

    def field_of_view(self, grid: Grid) -> Callable[[Array, float], Array]:
        """Return a function that tells which (n, 3) mm lie in view, a margin (mm) away from its edge."""
        last = np.array(grid.shape) - 1.0

        def is_seen(points_mm: Array, margin_mm: float) -> Array:
            index = grid.map_world_to_indices(points_mm)
            margin = margin_mm / np.array(grid.spacing_mm[::-1])
            seen = np.all((index >= margin) & (index <= last - margin), axis=1)
            if self.round_view is not None:
                away = np.hypot(*(index[:, 1:] - last[1:] / 2).T)
                seen &= away <= self.radius(grid) - margin[1]
            return seen

        return is_seen

    def radius(self, grid: Grid) -> float:
        """Return the radius of a round view, voxels."""
        return (self.round_view or np.inf) * max(grid.shape[1:]) / 2


def add_before_scan(
    hu: Array, grid: Grid, posed: list[PosedVertebra], extras: Extras, rng: np.random.Generator
) -> Array | None:
    """Draw extras into an ideal image, in place.

    Returns:
        Where metal is, (z, y, x) bool, or None: its streaks come after the scanner.
    """
    for k in extras.gas_discs:
        if k + 1 < len(posed):
            _gas(hu, grid, posed[k], posed[k + 1], rng)
    if extras.cement_in is not None and extras.cement_in < len(posed):
        _cement(hu, grid, posed[extras.cement_in], rng)
    if extras.table:
        _table(hu, grid, rng)
    if extras.arms:
        _arms(hu, grid, rng)
    metal = np.full(grid.shape, NOTHING_MM, np.float32)
    if extras.screws_at is not None:
        _screws(metal, grid, posed[extras.screws_at : extras.screws_at + extras.screws_over], rng)
    for _ in range(extras.wires):
        _wire(metal, grid, hu, rng)
    if metal.max() <= NOTHING_MM + 1:
        return None
    # A wire thinner than a voxel still shines: the blur spreads what little there is.
    share = np.clip(0.5 + metal / (0.8 * float(np.mean(grid.spacing_mm))), 0, 1)
    hu += share * (METAL_HU - hu)
    return share > 0.3


def add_after_scan(
    image: Array, grid: Grid, metal: Array | None, extras: Extras, rng: np.random.Generator
) -> Array:
    """Add metal streaks and cut a round field of view; returns float HU."""
    image = image.astype(np.float32)
    if metal is not None:
        image += _metal_streaks(metal, grid, rng)
    if extras.round_view is not None:
        y, x = (np.arange(n) - (n - 1) / 2 for n in grid.shape[1:])
        image[:, np.hypot(y[:, None], x[None, :]) > extras.radius(grid)] = -1024
    return image


def _screws(metal: Array, grid: Grid, posed: list[PosedVertebra], rng: np.random.Generator) -> None:
    """Draw a screw through each pedicle and a rod along the heads of each side."""
    for side in (1.0, -1.0):
        heads = []
        for one in posed:
            half = one.half_size_mm
            tip = np.array([side * 0.35 * half[0], -0.35 * half[1], 0.25 * half[2]])
            head = np.array([side * 0.95 * half[0], half[1] + 26.0, 0.45 * half[2]])
            ends = one.center_mm + np.stack([tip, head]) @ one.axes
            capsules(metal, grid, ends, np.full(2, float(rng.uniform(2.2, 3.1))))
            heads.append(ends[1])
        capsules(metal, grid, np.array(heads), np.full(len(heads), 3.0))


def _wire(metal: Array, grid: Grid, hu: Array, rng: np.random.Generator) -> None:
    """Lay a thin wire over the front of the body."""
    start = grid.shape[0] * rng.random()
    points = []
    for t in np.linspace(0, 1, 12):
        k = int(np.clip(start + t * rng.uniform(0.2, 0.6) * grid.shape[0], 0, grid.shape[0] - 1))
        i = int(np.clip((0.2 + 0.6 * t) * grid.shape[2], 0, grid.shape[2] - 1))
        body = np.flatnonzero(hu[k, :, i] > -300)
        if len(body):
            points.append(grid.map_indices_to_world(np.array([[k, max(body[0] - 1, 0), i]]))[0])
    if len(points) > 1:
        capsules(metal, grid, np.array(points), np.full(len(points), 0.7))


def _gas(
    hu: Array, grid: Grid, upper: PosedVertebra, lower: PosedVertebra, rng: np.random.Generator
) -> None:
    center = (upper.center_mm + lower.center_mm) / 2
    half = upper.half_size_mm
    line = np.array([(-0.4 * half[0], 0.1, 0), (0, -0.2 * half[1], 0), (0.4 * half[0], 0.1, 0)])
    field = np.full(hu.shape, NOTHING_MM, np.float32)
    capsules(field, grid, center + line @ upper.axes, np.full(3, float(rng.uniform(0.8, 1.6))))
    hu[(field > 0) & (hu < 250)] = float(rng.uniform(-900, -250))


def _cement(hu: Array, grid: Grid, posed: PosedVertebra, rng: np.random.Generator) -> None:
    half = posed.half_size_mm
    field = np.full(hu.shape, NOTHING_MM, np.float32)
    for _ in range(5):
        spot = rng.uniform(-0.45, 0.45, (2, 3)) * half
        capsules(field, grid, posed.center_mm + spot @ posed.axes, np.full(2, 0.35 * half[2]))
    hu[field > 0] = float(rng.uniform(1300, 2600))


def _table(hu: Array, grid: Grid, rng: np.random.Generator) -> None:
    """Put a thin curved shell filled with foam under the back, where air is."""
    body = np.flatnonzero((hu[::4, :, ::4] > -300).any(axis=(0, 2)))
    if not len(body):
        return
    top = grid.origin_mm[1] + body[-1] * grid.spacing_mm[1] + rng.uniform(2, 14)
    y = grid.origin_mm[1] + grid.spacing_mm[1] * np.arange(grid.shape[1])
    x = grid.spacing_mm[0] * (np.arange(grid.shape[2]) - grid.shape[2] / 2)
    below = y[:, None] - top + (x[None, :] / rng.uniform(26, 60)) ** 2
    width = rng.uniform(195, 260)
    inside = (below > 0) & (below < 24) & (np.abs(x)[None, :] < width)
    shell = inside & ((below < 2.5) | (below > 21))
    plane = np.where(shell, rng.uniform(-250, 150), -930)
    air = hu < -700
    hu[air & inside[None]] = np.broadcast_to(plane[None], hu.shape)[air & inside[None]]


def _arms(hu: Array, grid: Grid, rng: np.random.Generator) -> None:
    """Lay upper arms beside the trunk where there is room in the volume."""
    center = np.mean(grid.corners_mm(), axis=0)
    z = grid.corners_mm()[:, 2]
    for side in (1, -1):
        x = center[0] + side * rng.uniform(205, 235)
        path = np.array(
            [(x, center[1], z.min() - 20), (x - side * 10, center[1] - 12, z.max() + 20)]
        )
        flesh = np.full(hu.shape, NOTHING_MM, np.float32)
        capsules(flesh, grid, path, np.full(2, float(rng.uniform(36, 50))))
        bone = np.full(hu.shape, NOTHING_MM, np.float32)
        capsules(bone, grid, path, np.full(2, 11.0))
        free = hu < -300
        hu[free & (flesh > 0)] = -100
        hu[free & (flesh > 11)] = 55
        hu[free & (bone > 0)] = 1100
        hu[free & (bone > 5)] = 0


def _metal_streaks(metal: Array, grid: Grid, rng: np.random.Generator) -> Array:
    """Return streaks that radiate from metal in each slice, dark between two pieces."""
    out = np.zeros(metal.shape, np.float32)
    y, x = (np.arange(n, dtype=np.float32) for n in metal.shape[1:])
    for k in np.flatnonzero(metal.any(axis=(1, 2))):
        parts, count = ndimage.label(metal[k])
        centers = ndimage.center_of_mass(metal[k], parts, range(1, min(count, 4) + 1))
        sizes = np.bincount(parts.ravel())[1:]
        for (cy, cx), size in zip(centers, sizes, strict=False):
            dy, dx = y[:, None] - cy, x[None, :] - cx
            angle = np.arctan2(dy, dx)
            far = np.hypot(dy * grid.spacing_mm[1], dx * grid.spacing_mm[0])
            waves = rng.normal(0, 1, (10, 2))
            pattern = sum(
                a * np.cos(n * angle + 6.28 * b)
                for n, (a, b) in zip(range(2, 40, 4), waves, strict=True)
            )
            strength = 28.0 * min(float(size) * grid.spacing_mm[0] ** 2, 60.0) ** 0.5
            out[k] += strength * pattern / (1 + (far / 14.0) ** 1.3)
        for (ay, ax), (by, bx) in pairwise(centers):
            across = np.array([by - ay, bx - ax])
            across /= max(float(np.hypot(*across)), 1e-3)
            off = np.abs((y[:, None] - ay) * across[1] - (x[None, :] - ax) * across[0])
            out[k] -= 160 * np.exp(-((off * grid.spacing_mm[0] / 5.0) ** 2))
    return out
