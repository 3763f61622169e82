"""Synthetic scans: the one place where poses, surroundings, rendering and scanner meet."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from payerseg.domain.grid import Grid
from payerseg.domain.landmarks import Landmark, Landmarks
from payerseg.domain.vertebra import Vertebra
from payerseg.domain.volume import Volume
from payerseg.synthesis.bones import Bones, Ripple
from payerseg.synthesis.extras import Extras, add_after_scan, add_before_scan
from payerseg.synthesis.library import ShapeLibrary, pose_one_spine, pose_whole_spine
from payerseg.synthesis.outline import capsules
from payerseg.synthesis.poses import PosedVertebra, Spur
from payerseg.synthesis.render import render
from payerseg.synthesis.scanner import Scanner, rounded, scan, smooth_field
from payerseg.synthesis.shapes import SpineShapes
from payerseg.synthesis.spine_axis import SpineAxis
from payerseg.synthesis.surroundings import Context, Surroundings, surround
from payerseg.synthesis.tissues import Patient
from payerseg.synthesis.torso import TorsoAtlas

Array = np.ndarray


@dataclass(frozen=True, slots=True, eq=False)
class SyntheticScan:
    """A labelled CT-like volume.

    Attributes:
        ct: (z, y, x) int16 HU.
        labels: (z, y, x) uint8 VerSe labels on the same grid; vertebrae cut by a face are labelled.
        landmarks: body centres of the vertebrae whose centre lies inside the volume.
        cut: names of vertebrae that reach beyond a face (also when their centre is inside).
        ribs: of C7 to L2, left and right: "rib", "stump", "none" or "not in view", as drawn.
        sacrum_mm: centre of S1, None where it is not in the volume.
        notes: what it was made from.
    """

    ct: Volume
    labels: Volume
    landmarks: Landmarks
    cut: tuple[str, ...] = ()
    ribs: dict[Vertebra, tuple[str, str]] = field(default_factory=dict)
    sacrum_mm: Array | None = None
    notes: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Extent:
    """How much of the body is in the volume, mm about the vertebrae's centres.

    Attributes:
        spacing_mm: voxel size (x, y, z).
        side_mm, front_mm, back_mm: room to each side, in front and behind.
        above_mm, below_mm: room beyond the first and last centre; negative cuts vertebrae off.
        first, last: the vertebrae that ends are counted from; by default the spine's own ends.
    """

    spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0)
    side_mm: float = 75.0
    front_mm: float = 65.0
    back_mm: float = 95.0
    above_mm: float = 20.0
    below_mm: float = 20.0
    first: Vertebra | None = None
    last: Vertebra | None = None

    def grid(self, posed: list[PosedVertebra]) -> Grid:
        """Return the grid around posed vertebrae."""
        ranks = [p.vertebra.rank for p in posed]
        top = ranks[0] if self.first is None else self.first.rank
        end = ranks[-1] if self.last is None else self.last.rank
        inside = [p for p in posed if top <= p.vertebra.rank <= end] or posed
        centers_mm = np.array([p.center_mm for p in inside])
        low = centers_mm.min(axis=0) - np.array([self.side_mm, self.front_mm, self.below_mm])
        high = centers_mm.max(axis=0) + np.array([self.side_mm, self.back_mm, self.above_mm])
        shape = np.maximum(np.round((high - low) / self.spacing_mm), 8).astype(int)
        return Grid(tuple(shape[::-1].tolist()), self.spacing_mm, tuple(low))

    def with_random_view(self, vertebrae: list[Vertebra], rng: np.random.Generator) -> Extent:
        """Return it with a field of view drawn like scans are: chest, belly, neck, all, or any slab."""
        count = len(vertebrae)
        kind = rng.random()
        if kind < 0.25:
            first, last = 0, count - 1
        else:
            length = int(rng.integers(4, 18))
            first = int(rng.integers(-2, count - 3))
            last = min(first + length, count - 1)
            first = max(first, 0)
        room = rng.uniform(-12, 45, 2)
        above = float(rng.uniform(10, 150)) if first == 0 else float(room[0])
        below = float(rng.uniform(20, 170)) if last == count - 1 else float(room[1])
        return replace(
            self, first=vertebrae[first], last=vertebrae[last], above_mm=above, below_mm=below
        )


BODY_3MM = Extent((3.0, 3.0, 3.0), side_mm=195.0, front_mm=190.0, back_mm=115.0)
"""A whole body's cross-section for naming at 3 mm."""


@dataclass(frozen=True, slots=True)
class Conditions:
    """Who is scanned and how.

    Attributes:
        patient: tissues' HU.
        scanner: kernel, noise, slices.
        extras: metal, table, arms and the like.
        ripple_mm: amplitude of the smooth warp of shapes.
    """

    patient: Patient
    scanner: Scanner
    extras: Extras = field(default_factory=Extras)
    ripple_mm: float = 1.2

    @classmethod
    def draw(cls, count: int, rng: np.random.Generator) -> Conditions:
        """Draw a patient, a scanner and extras for a spine of `count` vertebrae."""
        return cls(Patient.draw(rng), Scanner.draw(rng), Extras.draw(count, rng))


def scan_of(
    posed: list[PosedVertebra], torsos: tuple[TorsoAtlas, ...], extent: Extent, conditions: Conditions,
    rng: np.random.Generator,
) -> SyntheticScan:  # fmt: skip
    """Draw posed vertebrae with a body around them and scan it.

    Args:
        posed: head to foot.
        torsos: whose organs and ribs, in order of preference; empty = from numbers.
        extent: the volume.
        conditions: patient and scanner.
        rng: textures, noise, warp.
    """
    ripple = Ripple.draw(rng, conditions.ripple_mm)
    posed = [replace(p, spurs=draw_spurs(conditions.patient, rng)) for p in posed]
    grid = extent.grid(posed)
    bones = Bones.empty(grid)
    for one in posed:
        bones.add(one, ripple)
    bones.settle()
    seen = ripple.moved(np.array([p.landmark_mm for p in posed]))
    marks = Landmarks(Landmark(p.vertebra, tuple(c)) for p, c in zip(posed, seen, strict=True))
    context = Context.draw(torsos, conditions.patient, posed, rng)
    around = surround(grid, SpineAxis.of(marks), posed, context, rng)
    grow_sacral_wings(bones, around, posed[-1])
    hu = render(bones, around, conditions.patient, 0.45 * float(np.mean(grid.spacing_mm)), rng)
    metal = add_before_scan(hu, grid, posed, conditions.extras, rng)
    image = scan(hu, grid, conditions.scanner, rng)
    image = rounded(add_after_scan(image, grid, metal, conditions.extras, rng))
    inside = Landmarks(m for m in marks.values() if grid.contains(np.array([m.position_mm]))[0])
    is_seen = conditions.extras.field_of_view(grid)
    sacrum = (
        around.s1_mm if around.s1_mm is not None and is_seen(around.s1_mm[None], 0.0)[0] else None
    )
    notes = {p.vertebra.name: f"{p.shape.source}:{p.shape.vertebra.name}" for p in posed}
    return SyntheticScan(
        Volume(image, grid), Volume(bones.labels, grid), inside, _cut(bones.labels, posed),
        around.ribs.words([p for p in posed if p.vertebra in inside], is_seen), sacrum, notes,
    )  # fmt: skip


def draw_spurs(patient: Patient, rng: np.random.Generator) -> tuple[Spur, ...]:
    """Draw osteophytes, more of them in the old."""
    count = rng.poisson(2.2 * patient.sclerosis)
    return tuple(
        Spur(
            float(rng.uniform(-np.pi * 0.95, -0.05)),
            bool(rng.integers(2)),
            float(rng.uniform(2.0, 4.2)),
        )
        for _ in range(count)
    )


def grow_sacral_wings(bones: Bones, around: Surroundings, last: PosedVertebra) -> None:
    """Join the last vertebra's transverse processes to the sacrum where they have grown onto it.

    The upper half of a wing is the vertebra's, the lower half the sacrum's.
    """
    half, size = last.half_size_mm, float(last.scale.mean())
    s1 = around.s1_mm
    if s1 is None:
        s1 = last.center_mm - 26 * size * last.axes[2] + 12 * size * last.axes[1]
    for side, grown in zip((1.0, -1.0), last.sacral_wings, strict=True):
        if grown:
            local = np.array([(side * (half[0] - 4), 0.6 * half[1], 0.1 * half[2]),
                              (side * (half[0] + 13 * size), 0.9 * half[1], -0.2 * half[2])])  # fmt: skip
            root, middle = last.center_mm + local @ last.axes
            end = s1 + np.array([side * (half[0] + 12 * size), 8.0 * size, 4.0 * size])
            bones.grow(last.vertebra, np.array([root, middle, (middle + end) / 2]), 9.0 * size)
            path = np.array([(middle + end) / 2, end])
            capsules(around.bone_mm, bones.grid, path, np.array([10.0, 11.0]) * size)


def _cut(labels: Array, posed: list[PosedVertebra]) -> tuple[str, ...]:
    faces = [labels[0], labels[-1], labels[:, 0], labels[:, -1], labels[:, :, 0], labels[:, :, -1]]
    values = set(np.unique(np.concatenate([f.ravel() for f in faces])).tolist())
    return tuple(p.vertebra.name for p in posed if p.vertebra.verse_label in values)


def synthesize_from_spine(
    spine: SpineShapes, library: ShapeLibrary, seed: int, extent: Extent | None = None
) -> SyntheticScan:
    """Draw one label map's vertebrae, re-posed and rescaled, as a CT around the spine.

    Beyond its ends the spine goes on with vertebrae of others, so that a scan ends as scans do.

    Args:
        spine: whose vertebrae; the longest run without a missing level is used.
        library: others for the ends, and torsos.
        seed: decides everything.
        extent: the volume; by default 1 mm, 150 mm wide, ends drawn at random.

    Returns:
        The scan; the same seed and inputs give the same bytes.
    """
    rng = np.random.default_rng(seed)
    posed = pose_one_spine(spine, library, rng)
    if extent is None:
        extent = Extent(above_mm=float(rng.uniform(-25, 15)), below_mm=float(rng.uniform(-30, 15)))
    torsos = tuple(library.torsos[k] for k in rng.permutation(len(library.torsos)))
    return scan_of(posed, torsos, extent, Conditions.draw(len(posed), rng), rng)


def synthesize_spine(
    library: ShapeLibrary, seed: int, variant: str = "usual", extent: Extent | None = None
) -> SyntheticScan:
    """Draw a whole spine composed from several people, in a whole body.

    Args:
        library: people and torsos.
        seed: decides everything.
        variant: one of `library.VARIANTS`.
        extent: the volume; by default a body at 3 mm with field of view drawn at random.

    Raises:
        DatasetError: a level is in no label map.
    """
    rng = np.random.default_rng(seed)
    posed = pose_whole_spine(library, variant, rng)
    if extent is None:
        extent = BODY_3MM.with_random_view([p.vertebra for p in posed], rng)
    torsos = tuple(library.torsos[k] for k in rng.permutation(len(library.torsos)))
    return scan_of(posed, torsos, extent, Conditions.draw(len(posed), rng), rng)


NEGATIVES = ("noise", "air", "water", "thigh", "lung", "head")


def synthesize_negative(
    kind: str, seed: int, shape: tuple[int, int, int] = (96, 96, 96), spacing_mm: float = 2.5
) -> Volume:
    """Return an int16 CT-like volume that shows no vertebra.

    Args:
        kind: one of `NEGATIVES`: pure noise, an empty scan, a water cylinder, a thigh, a slab of lung,
            a head above C1.
        seed: decides everything.
        shape: voxels (z, y, x).
        spacing_mm: voxel size.

    Raises:
        ValueError: no such kind.
    """
    painters = {
        "noise": _noise,
        "air": _air,
        "water": _water,
        "thigh": _thigh,
        "lung": _lung,
        "head": _head,
    }
    if kind not in painters:
        msg = f"negative {kind!r} is unknown; expected one of {', '.join(NEGATIVES)}"
        raise ValueError(msg)
    rng = np.random.default_rng(seed)
    size = np.array(shape[::-1]) * spacing_mm
    grid = Grid(shape, (spacing_mm,) * 3, tuple(-size / 2 + rng.uniform(-100, 100, 3)))
    hu = painters[kind](grid, rng).astype(np.float32)
    scanner = Scanner(noise_hu=float(rng.uniform(5, 30)), blur_mm=float(rng.uniform(0.2, 0.8)))
    return Volume(rounded(scan(hu, grid, scanner, rng)), grid)


def _centered(grid: Grid) -> tuple[Array, Array, Array]:
    """Return z, y, x mm from the middle, broadcastable."""
    z, y, x = (
        s * (np.arange(n) - (n - 1) / 2)
        for n, s in zip(grid.shape, grid.spacing_mm[::-1], strict=True)
    )
    return z[:, None, None], y[None, :, None], x[None, None, :]


def _noise(grid: Grid, rng: np.random.Generator) -> Array:
    return rng.normal(rng.uniform(-500, 300), rng.uniform(100, 400), grid.shape)


def _air(grid: Grid, rng: np.random.Generator) -> Array:
    del rng
    return np.full(grid.shape, -1000.0)


def _water(grid: Grid, rng: np.random.Generator) -> Array:
    z, y, x = _centered(grid)
    radius = 0.4 * min(grid.extent_mm[:2]) * rng.uniform(0.7, 1)
    hu = np.where(x**2 + y**2 + 0 * z < radius**2, 0.0, -1000.0)
    for value in (-1000, -100, 120, 340, 990):
        angle = rng.uniform(0, 6.28)
        far = (x - 0.6 * radius * np.cos(angle)) ** 2 + (y - 0.6 * radius * np.sin(angle)) ** 2
        hu[np.broadcast_to(far < (0.09 * radius) ** 2, hu.shape)] = value
    return hu


def _thigh(grid: Grid, rng: np.random.Generator) -> Array:
    z, y, x = _centered(grid)
    radius = 0.42 * min(grid.extent_mm[:2])
    far = np.sqrt(x**2 + y**2) + 0.02 * z
    hu = np.where(far < radius, -100.0, -1000.0)
    muscle = far < radius - rng.uniform(8, 22)
    bundles = smooth_field(grid.shape, grid.spacing_mm[::-1], (60.0, 18.0, 18.0), rng)
    hu[muscle] = np.where(np.abs(bundles[muscle]) < 0.12, -80, 58)
    depth = np.full(grid.shape, -12.7, np.float32)
    middle = grid.map_indices_to_world((np.array([grid.shape]) - 1) / 2)[0]
    half = grid.extent_mm[2] / 2
    ends = middle + np.array([(4, -6, -half), (-3, -2, half)])
    capsules(depth, grid, ends, np.full(2, 14.0))
    hu[depth > 0] = 1300
    hu[depth > 6] = -40
    return hu


def _lung(grid: Grid, rng: np.random.Generator) -> Array:
    spacing = grid.spacing_mm[::-1]
    hu = -860 + 30 * smooth_field(grid.shape, spacing, (8.0, 8.0, 8.0), rng)
    vessels = smooth_field(grid.shape, spacing, (6.0, 6.0, 6.0), rng)
    hu[vessels > 2.0] = 40
    _, y, x = _centered(grid)
    wall = np.sqrt((x / 0.48) ** 2 + (y / 0.48) ** 2) > min(grid.extent_mm[:2])
    hu[np.broadcast_to(wall, hu.shape)] = 40
    return hu


def _head(grid: Grid, rng: np.random.Generator) -> Array:
    z, y, x = _centered(grid)
    size = rng.uniform(0.9, 1.05)
    radius = (
        np.sqrt((x / 72) ** 2 + (y / 92) ** 2 + ((z + grid.extent_mm[2] / 2 - 20) / 90) ** 2) / size
    )
    hu = np.where(radius < 1.07, 20.0, -1000.0)
    hu[(radius < 1.0) & (radius > 0.93)] = 1100
    brain = radius <= 0.93
    hu[brain] = 34 + 5 * smooth_field(grid.shape, grid.spacing_mm[::-1], (12, 8, 8), rng)[brain]
    return hu
