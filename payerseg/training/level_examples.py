"""Examples of the level network: a view, places in it, and what is known of each place.

The order is that of a real scan: first how the scanner shows the body, then where the field of view
ends, with exactly the air beyond it that inference fills in.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy import ndimage

from payerseg.config.model_card import WindowSpec
from payerseg.domain.levels import N_TARGETS, S1_RANK, UNKNOWN, Rib
from payerseg.domain.vertebra import Vertebra
from payerseg.preprocess.channels import normalized
from payerseg.training.augment import (
    AIR_HU,
    AppearanceRanges,
    Warp,
    apply_appearance,
    rotation_matrix,
)
from payerseg.training.examples import PackedScan

Array = np.ndarray
RANK, LEFT, RIGHT, SACRUM, WHOLE, VERTEBRA = range(N_TARGETS)
RANK_OF_CHANNEL = np.array([Vertebra.from_channel(c).rank for c in range(len(Vertebra))])
LEVEL_BASE_MM = 2.5
"""Scans are averaged down to this once; views are sampled from there, in training as at inference."""
FIRST_RIB, LAST_RIB = Vertebra.T1.rank, Vertebra.T13.rank
BONE_HU = 200.0
LAST_LUMBAR = (Vertebra.L5.rank, Vertebra.L6.rank)


@dataclass(frozen=True, slots=True)
class LevelRecipe:
    """How views are drawn.

    Attributes:
        shape_zyx, spacing_mm, window: of the view.
        rotation_sd_rad: about x, y, z; `wide_p` of the draws three times as far.
        adult_sd, child_p, child: spread of log size; share of children and their sizes.
        axis_sd: spread of log size per axis on top.
        flip_p: mirrored left-right, front-back.
        off_center_vox: SD of the view's place in (y, x); in z it is uniform over `reach_z`.
        appearance: how the picture changes.
        slab_p, slab_mm: short scans; heights are drawn uniform in log.
        narrow_p, narrow_mm: views cut to the sides (each side on its own), and in front.
        round_p, round_mm: round fields of view.
        jitter_mm: SD of the finder's error.
        n_places: rows of an example.
        n_false: most places that are no vertebra.
        beside_p, beside_mm: views beside the spine, which is cut away, so that a hip or a rib cage
            alone is no spine; `beside_clear_mm` from every centre.
        group_shares: share of draws per `PackedScan.group`.
    """

    shape_zyx: tuple[int, int, int] = (96, 56, 80)
    spacing_mm: float = 3.0
    window: WindowSpec = field(default_factory=lambda: WindowSpec(shift=1.7, low=0.0, high=4.2))
    rotation_sd_rad: tuple[float, float, float] = (0.13, 0.12, 0.10)
    wide_p: float = 0.12
    adult_sd: float = 0.09
    child_p: float = 0.2
    child: tuple[float, float] = (0.52, 0.9)
    axis_sd: float = 0.04
    flip_p: tuple[float, float] = (0.3, 0.06)
    reach_z: float = 0.32
    off_center_vox: tuple[float, float] = (3.0, 4.0)
    appearance: AppearanceRanges = field(
        default_factory=lambda: AppearanceRanges(slice_mm=(3.0, 9.0))
    )
    slab_p: float = 0.5
    slab_mm: tuple[float, float] = (48.0, 300.0)
    narrow_p: float = 0.35
    narrow_mm: tuple[float, float] = (22.0, 110.0)
    round_p: float = 0.1
    round_mm: tuple[float, float] = (50.0, 120.0)
    jitter_mm: float = 2.5
    n_places: int = 24
    n_false: int = 4
    beside_p: float = 0.06
    beside_mm: tuple[float, float] = (70.0, 150.0)
    beside_clear_mm: float = 45.0
    group_shares: tuple[tuple[str, float], ...] = (("real", 1.0),)


class LevelSampler:
    """Pick a group, then a level, then a patient's scan that shows it.

    Raises:
        ValueError: no scan has a mark.
    """

    def __init__(
        self, scans: list[PackedScan], group_shares: tuple[tuple[str, float], ...]
    ) -> None:
        self._tables: list[tuple[float, list[list[tuple[int, int]]], Array]] = []
        for group, share in group_shares:
            table: dict[int, list[tuple[int, int]]] = {}
            of_group = ((i, scan) for i, scan in enumerate(scans) if scan.group == group)
            for i, row, rank in (
                (i, *pair) for i, scan in of_group for pair in enumerate(ranks_of(scan))
            ):
                table.setdefault(int(rank), []).append((i, row))
            if table and share > 0:
                ranks = sorted(table)
                # the neck's levels look like no others; few people show each
                odds = np.array([0.45 if r < FIRST_RIB or r == S1_RANK else 1.0 for r in ranks])
                odds *= np.minimum(1.0, np.array([len(table[r]) for r in ranks]) / 6)
                self._tables.append((share, [table[r] for r in ranks], odds / odds.sum()))
        if not self._tables:
            msg = f"no marked scan among {len(scans)} for groups {group_shares}"
            raise ValueError(msg)

    def pick(self, rng: np.random.Generator) -> tuple[int, int]:
        """Return (scan index, row of `points_of`)."""
        shares = np.array([share for share, _, _ in self._tables])
        _, rows, odds = self._tables[int(rng.choice(len(shares), p=shares / shares.sum()))]
        choices = rows[int(rng.choice(len(rows), p=odds))]
        return choices[int(rng.integers(len(choices)))]


def ranks_of(scan: PackedScan) -> Array:
    """Return the ranks of a scan's points: its marks, and S1 where the sacrum is marked."""
    ranks = RANK_OF_CHANNEL[scan.marks[:, 0].astype(int)]
    return ranks if scan.sacrum_mm is None else np.append(ranks, S1_RANK)


def points_of(scan: PackedScan) -> Array:
    """Return (n, 3) x, y, z mm in the order of `ranks_of`."""
    points = scan.marks[:, 1:]
    return points if scan.sacrum_mm is None else np.vstack([points, scan.sacrum_mm])


def facts_of(scan: PackedScan) -> Array:
    """Return (n, `N_TARGETS`) float32 rows: what the marks and the catalogue say of each point."""
    ranks = ranks_of(scan)
    rows = np.full((len(ranks), N_TARGETS), float(UNKNOWN), np.float32)
    rows[:, RANK], rows[:, WHOLE], rows[:, VERTEBRA] = ranks, 1, 1
    ribbed = (ranks >= FIRST_RIB) & (ranks <= LAST_RIB)
    rows[:, LEFT] = rows[:, RIGHT] = np.where(ribbed, Rib.RIB, Rib.NONE)
    told = scan.ribs
    if told is not None:
        n = len(told)
        rows[:n, LEFT:SACRUM] = np.where(np.isnan(told), rows[:n, LEFT:SACRUM], told)
    last = scan.sacrum_mm is not None and len(ranks) > 1
    rows[:, SACRUM] = np.where(np.isin(ranks, LAST_LUMBAR), UNKNOWN, 0)
    if last:
        rows[-2, SACRUM] = 1
    return rows


def level_example(
    scan: PackedScan, row: int, rng: np.random.Generator, recipe: LevelRecipe
) -> tuple[tuple[Array, Array], Array]:
    """Draw an example around a point of a scan.

    Args:
        scan: packed.
        row: of `points_of`.
        rng: decides everything.
        recipe: how views are drawn.

    Returns:
        The view (z, y, x, 1) float32 and places (n, 3) float32, voxels (z, y, x); and the rows
        (n, `N_TARGETS`) float32, `UNKNOWN` where nothing is known and in rows that are not used.
    """
    shape = np.asarray(recipe.shape_zyx)
    warp, flipped = draw_pose(rng, recipe)
    points = points_of(scan)
    beside = rng.random() < recipe.beside_p
    center = points[row]
    if beside:
        aside = rng.choice((-1, 1)) * rng.uniform(*recipe.beside_mm)
        center = center + np.array([aside, 0, 0])
    shift = np.array([
        rng.normal(0, recipe.off_center_vox[1]),
        rng.normal(0, recipe.off_center_vox[0]),
        rng.uniform(-1, 1) * recipe.reach_z * shape[0],
    ]) * recipe.spacing_mm  # fmt: skip
    move = center - warp.matrix @ shift
    hu = _sampled(scan, warp.matrix, move, recipe)
    beyond = hu <= AIR_HU  # air inside the scan is hardly ever that exact
    xyz = warp.map_points_back(points - move)
    facts = facts_of(scan)
    if flipped:
        facts[:, [LEFT, RIGHT]] = facts[:, [RIGHT, LEFT]]
    hu = apply_appearance(rng, hu, recipe.appearance, recipe.spacing_mm)
    hu[beyond] = AIR_HU
    half = shape[::-1] * recipe.spacing_mm / 2
    seen = np.all(np.abs(xyz) < half - recipe.spacing_mm, axis=1)
    if beside:
        return _beside(hu, xyz, rng, recipe)
    seen &= cut_field_of_view(hu, xyz, facts, seen, rng, recipe)
    picture = normalized(hu, recipe.window)[..., None]
    places, rows = _rows(xyz[seen], facts[seen], rng, recipe)
    return (picture, places), rows


def _sampled(scan: PackedScan, matrix: Array, move_mm: Array, recipe: LevelRecipe) -> Array:
    """Return the view (z, y, x) float32 HU: the scan at matrix @ (mm from the view's middle) + move."""
    step = matrix[::-1, ::-1] * (recipe.spacing_mm / scan.spacing_mm)
    middle = (np.asarray(recipe.shape_zyx) - 1) / 2
    first = ((move_mm - scan.origin_mm) / scan.spacing_mm)[::-1] - step @ middle
    return ndimage.affine_transform(
        scan.hu, step, first, recipe.shape_zyx,
        output=np.float32, order=1, mode="constant", cval=AIR_HU, prefilter=False,
    )  # fmt: skip


def draw_pose(rng: np.random.Generator, recipe: LevelRecipe) -> tuple[Warp, bool]:
    """Return a rotation and size without shift, and whether left and right change places."""
    sd = np.asarray(recipe.rotation_sd_rad) * (3.0 if rng.random() < recipe.wide_p else 1.0)
    angles = np.clip(rng.normal(0, sd), -0.6, 0.6)
    if rng.random() < recipe.child_p:
        size = rng.uniform(*recipe.child)
    else:
        size = np.exp(np.clip(rng.normal(0, recipe.adult_sd), -0.25, 0.25))
    grow = size * np.exp(rng.normal(0, recipe.axis_sd, 3))
    sides = rng.random() < recipe.flip_p[0]
    depth = rng.random() < recipe.flip_p[1]
    flip = np.array([-1.0 if sides else 1.0, -1.0 if depth else 1.0, 1.0])
    return Warp(rotation_matrix(angles) @ np.diag(flip / grow)), bool(sides)


def cut_field_of_view(
    hu: Array, xyz: Array, facts: Array, seen: Array, rng: np.random.Generator, recipe: LevelRecipe
) -> Array:
    """Blank what a smaller field of view would not show, in place; facts become unknown with it.

    Returns:
        Which points are still seen.
    """
    kept = np.ones(len(xyz), bool)
    inside = np.flatnonzero(seen)
    if not len(inside):
        return kept
    x, y, z = ((np.arange(n) - (n - 1) / 2) * recipe.spacing_mm for n in hu.shape[::-1])
    depth = np.full(len(xyz), np.inf)
    if rng.random() < recipe.slab_p:
        anchor = xyz[inside[int(rng.integers(len(inside)))], 2]
        height = np.exp(rng.uniform(*np.log(recipe.slab_mm)))
        low = anchor - rng.uniform(0.08, 0.92) * height
        hu[(z < low) | (z > low + height)] = AIR_HU
        depth = np.minimum(xyz[:, 2] - low, low + height - xyz[:, 2])
        # the sacrum below is not seen where the cut takes it away
        facts[(xyz[:, 2] - low < 30) & (facts[:, SACRUM] == 1), SACRUM] = UNKNOWN
    spine = np.median(xyz[inside, :2], axis=0)
    if rng.random() < recipe.narrow_p:
        narrowest, widest = np.log(recipe.narrow_mm)
        left, right = np.exp(rng.uniform(narrowest, widest, 2))
        if rng.random() < 0.6:
            right = left
        front, back = rng.uniform(25, 140), rng.uniform(40, 110)
        hu[:, :, (x > spine[0] + left) | (x < spine[0] - right)] = AIR_HU
        hu[:, (y < spine[1] - front) | (y > spine[1] + back)] = AIR_HU
        aside = xyz[:, 0] - spine[0]
        facts[left - aside < 32, LEFT] = UNKNOWN
        facts[right + aside < 32, RIGHT] = UNKNOWN
        depth = np.minimum(depth, np.minimum(left - aside, right + aside) - 8)
    if rng.random() < recipe.round_p:
        radius = rng.uniform(*recipe.round_mm)
        middle = spine + rng.uniform(-0.5, 0.5, 2) * radius
        hu[:, np.hypot(x - middle[0], (y - middle[1])[:, None]) > radius] = AIR_HU
        for column, side in ((LEFT, 1.0), (RIGHT, -1.0)):
            rib = xyz[:, :2] + np.array([side * 32.0, 12.0])
            facts[np.hypot(*(rib - middle).T) > radius, column] = UNKNOWN
        depth = np.minimum(depth, radius - np.hypot(*(xyz[:, :2] - middle).T) - 8)
    facts[depth < 15, WHOLE] = UNKNOWN
    facts[depth < 10, WHOLE] = 0
    return kept & (depth > 3)


def _beside(
    hu: Array, xyz: Array, rng: np.random.Generator, recipe: LevelRecipe
) -> tuple[tuple[Array, Array], Array]:
    """Return a view without the spine, with places on the bone that is left; none is a vertebra."""
    x = (np.arange(hu.shape[2]) - (hu.shape[2] - 1) / 2) * recipe.spacing_mm
    near = xyz[np.abs(xyz[:, 2]) < hu.shape[0] * recipe.spacing_mm / 2 + recipe.beside_clear_mm]
    if near[:, 0].mean() < 0:
        hu[:, :, x < near[:, 0].max() + recipe.beside_clear_mm] = AIR_HU
    else:
        hu[:, :, x > near[:, 0].min() - recipe.beside_clear_mm] = AIR_HU
    places = np.zeros((recipe.n_places, 3), np.float32)
    rows = np.full((recipe.n_places, N_TARGETS), float(UNKNOWN), np.float32)
    bone = np.argwhere(hu > BONE_HU)
    n = min(len(bone), recipe.n_places // 2)
    places[:n] = bone[rng.choice(len(bone), n, replace=False)] if n else 0
    rows[:n, VERTEBRA] = 0
    return (normalized(hu, recipe.window)[..., None], places), rows


def _rows(
    xyz: Array, facts: Array, rng: np.random.Generator, recipe: LevelRecipe
) -> tuple[Array, Array]:
    """Return places in voxels (z, y, x), jittered, some of them false, and their rows."""
    places = np.zeros((recipe.n_places, 3), np.float32)
    rows = np.full((recipe.n_places, N_TARGETS), float(UNKNOWN), np.float32)
    false = _false_points(xyz, rng, recipe)
    room = recipe.n_places - len(false)
    chosen = rng.permutation(len(xyz))[:room]
    points = np.vstack([xyz[chosen] + rng.normal(0, recipe.jitter_mm, (len(chosen), 3)), false])
    middle = (np.asarray(recipe.shape_zyx) - 1) / 2
    places[: len(points)] = points[:, ::-1] / recipe.spacing_mm + middle
    rows[: len(chosen)] = facts[chosen]
    rows[len(chosen) : len(points), VERTEBRA] = 0
    return places, rows


def _false_points(xyz: Array, rng: np.random.Generator, recipe: LevelRecipe) -> Array:
    """Return points that are no vertebra's centre: discs, beside the spine, anywhere."""
    count = int(rng.integers(recipe.n_false + 1))
    half = np.asarray(recipe.shape_zyx[::-1]) * recipe.spacing_mm / 2 - recipe.spacing_mm
    out = []
    for _ in range(count if len(xyz) else 0):
        point = xyz[int(rng.integers(len(xyz)))]
        kind = rng.random()
        if kind < 0.35 and len(xyz) > 1:
            near = xyz[np.argsort(np.linalg.norm(xyz - point, axis=1))[1]]
            point = (point + near) / 2
        elif kind < 0.8:
            away = rng.normal(0, 1, 3)
            point = point + away / np.linalg.norm(away) * rng.uniform(18, 60)
        else:
            point = rng.uniform(-half, half)
        distance = np.linalg.norm(xyz - point, axis=1).min()
        if distance > 9 and np.all(np.abs(point) < half):
            out.append(point)
    return np.array(out).reshape(-1, 3)
