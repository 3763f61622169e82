"""From a recipe and packed items to a function that draws examples."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from payerseg.errors import DatasetError
from payerseg.training.augment_reference import crop_center_mm
from payerseg.training.examples import (
    BlockRecipe,
    CropRecipe,
    PackedScan,
    labels_example,
    no_spine_example,
    reference_spine_example,
    region_of_channel,
    spine_example,
    vertebra_example,
    vertebrae_example,
)
from payerseg.training.fit import Example
from payerseg.training.level_examples import LevelRecipe, LevelSampler, level_example
from payerseg.training.pack_format import VertebraCache, VertebraLabel
from payerseg.training.recipe import STAGE2, Recipe

Array = np.ndarray
Shares = tuple[tuple[str, float], ...]
REFERENCE_BOX_MARGIN_MM = 64.0


class ScanSampler:
    """Pick group, region, scan and vertebra, each uniform among what there is.

    Raises:
        ValueError: no scan has a mark.
    """

    def __init__(
        self, scans: list[PackedScan], group_shares: tuple[tuple[str, float], ...]
    ) -> None:
        self._tables: list[tuple[float, dict[int, dict[int, list[int]]]]] = []
        for group, share in group_shares:
            table: dict[int, dict[int, list[int]]] = {}
            for i, scan in enumerate(scans):
                if scan.group != group:
                    continue
                for row, mark in enumerate(scan.marks):
                    table.setdefault(region_of_channel(int(mark[0])), {}).setdefault(i, []).append(
                        row
                    )
            if table and share > 0:
                self._tables.append((share, table))
        if not self._tables:
            msg = f"no marked scan among {len(scans)} for groups {group_shares}"
            raise ValueError(msg)

    def pick(self, rng: np.random.Generator) -> tuple[int, int]:
        """Return (scan index, mark row)."""
        shares = np.array([share for share, _ in self._tables])
        table = self._tables[int(rng.choice(len(shares), p=shares / shares.sum()))][1]
        scans = table[sorted(table)[int(rng.integers(len(table)))]]
        scan = sorted(scans)[int(rng.integers(len(scans)))]
        return scan, scans[scan][int(rng.integers(len(scans[scan])))]


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
        return scan.origin_mm + (size_xyz - 1) * scan.spacing_mm / 2
    points = scan.marks[:, 1:]
    low = points.min(axis=0) - REFERENCE_BOX_MARGIN_MM
    extent = points.max(axis=0) + REFERENCE_BOX_MARGIN_MM - low
    blocks = recipe.examples
    field_mm = np.asarray(blocks.shape_zyx[::-1]) * blocks.spacing_mm
    return crop_center_mm(low, extent, field_mm, rng.uniform(-0.5, 0.5, 3))
