"""From a recipe and packed items to a function that draws examples."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from payerseg.errors import DatasetError
from payerseg.training.augment import apply_look, draw_warp, sample_block
from payerseg.training.augment_reference import crop_center_mm
from payerseg.training.examples import (
    BlockRecipe,
    CropRecipe,
    PackedScan,
    PackedVertebra,
    ScanSampler,
    no_spine_example,
    normalized,
    spine_example,
    vertebra_example,
    vertebrae_example,
    warped_block,
)
from payerseg.training.fit import Example
from payerseg.training.level_examples import LevelRecipe, LevelSampler, level_example
from payerseg.training.pack_format import VertebraCache, VertebraLabel
from payerseg.training.recipe import STAGE2, Recipe
from payerseg.training.targets import reference_spine_heatmap

Array = np.ndarray
Shares = tuple[tuple[str, float], ...]
REFERENCE_BOX_MARGIN_MM = 64.0


def shares_of(items: Sequence[PackedScan] | Sequence[VertebraLabel], shares: Shares) -> Shares:
    """Return the shares of the groups that have items; () means by the number of items.

    Raises:
        DatasetError: no item is of a group with a share.
    """
    counts: dict[str, int] = {}
    for item in items:
        counts[item.group] = counts.get(item.group, 0) + 1
    wanted = shares or tuple((name, float(n)) for name, n in sorted(counts.items()))
    kept = tuple((name, share) for name, share in wanted if counts.get(name) and share > 0)
    if not kept:
        msg = f"no item is of a group in {wanted}; the pack holds {sorted(counts)}"
        raise DatasetError(msg)
    return kept


def level_draw(recipe: Recipe, scans: list[PackedScan], shares: Shares = ()) -> Example:
    """Return a function that draws examples of the level network.

    Raises:
        DatasetError: there is nothing to draw from.
    """
    views = recipe.examples
    if not isinstance(views, LevelRecipe) or not scans:
        msg = f"{recipe.card.stage} draws views of scans; found {len(scans)} scans"
        raise DatasetError(msg)
    sampler = LevelSampler(scans, shares_of(scans, shares))

    def draw(rng: np.random.Generator) -> tuple[tuple[Array, Array], Array]:
        index, row = sampler.pick(rng)
        return level_example(scans[index], row, rng, views)

    return draw


def scan_draw(recipe: Recipe, scans: list[PackedScan], shares: Shares = ()) -> Example:
    """Return a function that draws examples of stage 1 or 2.

    Raises:
        DatasetError: there is nothing to draw from.
    """
    blocks = recipe.examples
    if not isinstance(blocks, BlockRecipe) or not scans:
        msg = f"{recipe.card.stage} draws blocks from scans; found {len(scans)} scans"
        raise DatasetError(msg)
    sampler = ScanSampler(scans, shares_of(scans, shares))
    make = {
        "spine_line": spine_example,
        "spine_reference": reference_spine_example,
        "rows": vertebrae_example,
    }[recipe.target]

    def draw(rng: np.random.Generator) -> tuple[Array, Array]:
        index, row = sampler.pick(rng)
        if recipe.empty_share and rng.random() < recipe.empty_share:
            return no_spine_example(scans[index], rng, blocks)
        if recipe.pick == "region":
            return make(scans[index], row, rng, blocks)
        scan = scans[int(rng.integers(len(scans)))]
        return make(scan, reference_center_mm(scan, rng, recipe), rng, blocks)

    return draw


def vertebra_draw(recipe: Recipe, vertebrae: VertebraCache, shares: Shares = ()) -> Example:
    """Return a function that draws examples of stage 3: group, region, vertebra, each uniform.

    Raises:
        DatasetError: there is nothing to draw from.
    """
    crops = recipe.examples
    if not isinstance(crops, CropRecipe) or not len(vertebrae):
        msg = f"{recipe.card.stage} draws crops from masked vertebrae; found {len(vertebrae)}"
        raise DatasetError(msg)
    kept = shares_of(vertebrae.labels, shares)
    chances = np.array([share for _, share in kept]) / sum(share for _, share in kept)
    tables: list[dict[int, list[int]]] = []
    for group, _ in kept:
        table: dict[int, list[int]] = {}
        for number, label in enumerate(vertebrae.labels):
            if label.group == group:
                table.setdefault(label.region, []).append(number)
        tables.append(table)
    make = labels_example if recipe.target == "labels" else vertebra_example

    def draw(rng: np.random.Generator) -> tuple[Array, Array]:
        table = tables[int(rng.choice(len(tables), p=chances))]
        region = table[sorted(table)[int(rng.integers(len(table)))]]
        return make(vertebrae[region[int(rng.integers(len(region)))]], rng, crops)

    return draw


def reference_center_mm(scan: PackedScan, rng: np.random.Generator, recipe: Recipe) -> Array:
    """Return the centre of the reference's training block: the image's, or a crop of the box."""
    if recipe.card.stage != STAGE2:
        size_xyz = np.asarray(scan.hu.shape[::-1])
        return np.asarray(scan.origin_mm) + (size_xyz - 1) * scan.spacing_mm / 2
    points = scan.marks[:, 1:]
    low = points.min(axis=0) - REFERENCE_BOX_MARGIN_MM
    extent = points.max(axis=0) + REFERENCE_BOX_MARGIN_MM - low
    blocks = recipe.examples
    field_mm = np.asarray(blocks.shape_zyx[::-1]) * blocks.spacing_mm
    return crop_center_mm(low, extent, field_mm, rng.uniform(-0.5, 0.5, 3))


def reference_spine_example(
    scan: PackedScan, row: int | Array, rng: np.random.Generator, recipe: BlockRecipe
) -> tuple[Array, Array]:
    """Draw a stage-1 example with the reference's target.

    Returns:
        x (z, y, x, 1) float32 and y (z, y, x, 2) float32: heatmap in [0, 1] and weight 1.
    """
    hu, marks, _ = warped_block(scan, row, rng, recipe)
    centre = (np.asarray(recipe.shape_zyx) - 1) / 2
    index = marks[:, :0:-1] / recipe.spacing_mm + centre
    heat = reference_spine_heatmap(index, recipe.shape_zyx)
    hu = apply_look(rng, hu, recipe.look, recipe.spacing_mm)
    target = np.stack([heat, np.ones_like(heat)], axis=-1).astype(np.float32)
    return normalized(hu, recipe.window)[..., None], target


def labels_example(
    item: PackedVertebra, rng: np.random.Generator, recipe: CropRecipe, n_maps: int = 25
) -> tuple[Array, Array]:
    """Draw an example of all classes at once.

    Returns:
        x (z, y, x, 1 + n_maps) float32: image and one closeness map per level; y (z, y, x, 1)
        float32: class numbers, 0 = background, 1 + channel.
    """
    from payerseg.preprocess.landmark_maps import closeness_maps

    extent = np.asarray(recipe.shape_zyx[::-1]) * recipe.spacing_mm
    warp = draw_warp(rng, recipe.warp, extent)
    anchor = rng.uniform(-1, 1, 3) * recipe.block_jitter_mm - recipe.offset_mm
    move = np.asarray(item.centre_mm) - warp.map_points(anchor[None])[0]
    lattice = warp.map_lattice(recipe.shape_zyx, recipe.spacing_mm)
    lattice += move.astype(np.float32)[:, None, None, None]
    linear = np.eye(3)[::-1] / item.spacing_mm
    index_from_mm = np.hstack([linear, ((np.asarray(item.hu.shape) - 1) / 2)[:, None]])
    hu = sample_block(item.hu, index_from_mm, lattice)
    labels = sample_block(item.labels, index_from_mm, lattice, order=0)
    marks = np.zeros((0, 4)) if item.marks is None else item.marks
    points = warp.map_points_back(marks[:, 1:] - move)
    points = points + rng.normal(0, recipe.point_jitter_mm, points.shape)
    axes = [(np.arange(n) - (n - 1) / 2) * recipe.spacing_mm for n in recipe.shape_zyx]
    maps = closeness_maps(marks[:, 0], points, axes, n_maps)
    hu = apply_look(rng, hu, recipe.look, recipe.spacing_mm)
    image = normalized(hu, recipe.window)[..., None]
    # VerSe labels 1..25 are channel + 1, the class number; T13 and the sacrum have no class here.
    classes = np.where(labels <= n_maps, labels, 0).astype(np.float32)
    return np.concatenate([image, maps], axis=-1), classes[..., None]
