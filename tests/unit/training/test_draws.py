"""Examples of every recipe: shapes, determinism, and what the reference draws."""

from dataclasses import replace

import numpy as np
import pytest
from reference_warp import ReferenceWarp

from payerseg.config.model_card import SCNetSpec, UNetSpec
from payerseg.config.training import NETWORKS, TRAINING_PRESETS
from payerseg.errors import ConfigError, DatasetError
from payerseg.networks.build import network_channels, network_multiple
from payerseg.preprocess.channels import heat_reach_sigmas
from payerseg.training.augment_reference import (
    ReferenceAppearance,
    ReferenceRanges,
    as_warp,
    draw_reference,
    draw_reference_intensity,
)
from payerseg.training.draws import (
    reference_center_mm,
    scan_draw,
    shares_of,
    vertebra_draw,
)
from payerseg.training.examples import CropRecipe
from payerseg.training.loss_table import LEARNABLE_SIGMA, loss_named, loss_names
from payerseg.training.pack_format import PackIndex, VertebraCache, VertebraLabel, read_scan
from payerseg.training.recipe import STAGE1, STAGE2, STAGE3, with_block, with_widths
from payerseg.training.recipes import recipe_for

ALL = [(preset, network) for preset in TRAINING_PRESETS for network in NETWORKS]


@pytest.fixture(scope="module")
def items(tiny_pack):
    index = PackIndex.read(tiny_pack)
    return {
        STAGE1: [read_scan(tiny_pack, item) for item in index.of(STAGE1)],
        STAGE2: [read_scan(tiny_pack, item) for item in index.of(STAGE2)],
        STAGE3: VertebraCache.of_pack(tiny_pack, index.of(STAGE3)),
    }


def small(preset: str, network: str):
    """The recipe with blocks that are quick to draw."""
    recipe = recipe_for(preset, network)  # type: ignore[arg-type]
    return replace(recipe, examples=replace(recipe.examples, shape_zyx=(32, 24, 24)))


def holding(vertebrae):
    """Vertebrae that are in memory."""
    labels = [VertebraLabel(one.group, one.region) for one in vertebrae]
    return VertebraCache(labels, vertebrae.__getitem__)


def draw_of(recipe, items):
    make = vertebra_draw if isinstance(recipe.examples, CropRecipe) else scan_draw
    return make(recipe, items[recipe.card.stage])


@pytest.mark.parametrize(("preset", "network"), ALL)
def test_every_recipe_draws_what_its_network_takes(items, preset: str, network: str) -> None:
    recipe = small(preset, network)
    draw = draw_of(recipe, items)
    x, y = draw(np.random.default_rng((1, 2)))
    inputs, outputs = network_channels(recipe.card.network)
    assert x.shape == (32, 24, 24, inputs)
    assert x.dtype == y.dtype == np.float32
    window = recipe.card.sampling.window
    assert window.low <= x[..., 0].min() <= x[..., 0].max() <= window.high
    expected = {
        "spine_line": (32, 24, 24, 2),
        "spine_reference": (32, 24, 24, 2),
        "rows": (26, 6),
        "mask": (32, 24, 24, 1),
        "labels": (32, 24, 24, 1),
    }
    assert y.shape == expected[recipe.target]
    again = draw_of(recipe, items)(np.random.default_rng((1, 2)))
    np.testing.assert_array_equal(x, again[0])
    np.testing.assert_array_equal(y, again[1])
    other, _ = draw(np.random.default_rng((1, 3)))
    assert not np.array_equal(x, other)
    if recipe.loss != LEARNABLE_SIGMA:
        answer = np.full((1, 32, 24, 24, outputs), 1 / outputs, np.float32)
        assert np.isfinite(float(loss_named(recipe.loss, recipe.target)(y[None], answer)))


@pytest.mark.parametrize("preset", ["payer", "reference"])
def test_a_point_heatmap_ends_where_the_stage_ends_it(items, preset: str) -> None:
    recipe = recipe_for(preset, STAGE3)
    recipe = replace(recipe, examples=replace(recipe.examples, shape_zyx=(64, 64, 64)))
    heat = draw_of(recipe, items)(np.random.default_rng(5))[0][..., 1]
    assert recipe.examples.heat_reach_sigmas == heat_reach_sigmas(recipe.card.sampling)
    assert (np.mean(heat == 0) > 0.5) == (preset == "reference")


@pytest.mark.parametrize(("preset", "network"), ALL)
def test_every_recipe_fits_its_network(preset: str, network: str) -> None:
    recipe = recipe_for(preset, network)  # type: ignore[arg-type]
    multiple = network_multiple(recipe.card.network)
    assert all(size % multiple == 0 for size in recipe.examples.shape_zyx)
    assert recipe.card.sampling.multiple % multiple == 0 or recipe.card.sampling.size_xyz
    assert recipe.pack_spacing_mm <= recipe.card.sampling.spacing_mm
    assert recipe.examples.spacing_mm == recipe.card.sampling.spacing_mm
    assert recipe.examples.window == recipe.card.sampling.window
    _, outputs = network_channels(recipe.card.network)
    assert len(recipe.card.channels) in (0, outputs)
    if isinstance(recipe.examples, CropRecipe):
        # a smaller block trains faster; the network is convolutional
        sizes = zip(recipe.examples.shape_zyx[::-1], recipe.card.sampling.size_xyz, strict=True)
        assert all(block <= size for block, size in sizes)
        moved = np.subtract(recipe.examples.offset_mm, recipe.card.sampling.offset_mm)
        assert np.all(np.abs(moved) <= recipe.examples.block_jitter_mm)


def test_the_reference_recipe_is_the_published_one() -> None:
    first, second, third = (recipe_for("reference", network) for network in NETWORKS)
    assert (first.iterations, second.iterations, third.iterations) == (10_000, 50_000, 50_000)
    assert {r.optimizer.learning_rate for r in (first, second, third)} == {1e-4}
    assert [r.optimizer.running_clip for r in (first, second, third)] == [(5, 10), (2, 10), (2, 1)]
    assert [r.optimizer.amsgrad for r in (first, second, third)] == [False, False, True]
    assert isinstance(first.card.network, UNetSpec)
    assert first.card.network.widths == (96,) * 5
    assert isinstance(second.card.network, SCNetSpec)
    assert second.card.network.spatial.repeats == 1
    assert second.card.network.pool == 4
    assert first.card.network.dropout == 0.25


def test_there_is_no_other_recipe() -> None:
    with pytest.raises(ConfigError, match="no recipe"):
        recipe_for("payer", "stage7")  # type: ignore[arg-type]


def test_other_widths() -> None:
    net = with_widths(recipe_for("payer", STAGE2).card.network, (2, 3))
    assert isinstance(net, SCNetSpec)
    assert net.local.widths == net.spatial.widths == (2, 3)
    net = with_widths(net, (2, 3), (4, 5, 6))
    assert (net.local.widths, net.spatial.widths) == ((2, 3), (4, 5, 6))


def test_mask_and_image_move_together(items) -> None:
    """The ball is bright: whatever the warp, the mask lies on what is bright."""
    recipe = recipe_for("payer", STAGE3)
    crops = replace(recipe.examples, shape_zyx=(64, 64, 64), cut_p=0.0)
    draw = draw_of(replace(recipe, examples=crops), items)
    for seed in range(3):
        x, y = draw(np.random.default_rng(seed))
        inside, outside = x[..., 0][y[..., 0] > 0], x[..., 0][y[..., 0] == 0]
        assert y.sum() > 2000
        assert inside.mean() > outside.mean() + 0.3


def test_all_classes_have_their_number_and_map(items) -> None:
    recipe = small("verse_pytorch", STAGE3)
    item = items[STAGE3][0]
    draw = vertebra_draw(recipe, holding([item]))
    x, y = draw(np.random.default_rng(0))
    assert set(np.unique(y)) == {0, item.label}
    maps = x[..., 1:].max(axis=(0, 1, 2))
    assert np.flatnonzero(maps).tolist() == [item.label - 1]


def test_a_smaller_block_moves_about_inside_the_recipes_own(items) -> None:
    whole = recipe_for("verse_pytorch", STAGE3)
    recipe = with_block(whole, (64, 48, 32), 8)
    assert recipe.card == whole.card
    assert recipe.examples.block_jitter_mm == (16, 24, 48)
    draw = vertebra_draw(recipe, holding([items[STAGE3][0]]))
    places = []
    for seed in range(12):
        x, _ = draw(np.random.default_rng(seed))
        assert x.shape == (32, 48, 64, 26)
        near = x[..., 1:].max(axis=-1)
        places.append(np.unravel_index(near.argmax(), near.shape))
    assert np.ptp(places, axis=0).min() > 12


@pytest.mark.parametrize("block_xyz", [(104, 96, 128), (96, 96, 100)])
def test_blocks_that_do_not_fit_are_refused(block_xyz: tuple[int, int, int]) -> None:
    with pytest.raises(ConfigError, match="multiples of 8"):
        with_block(recipe_for("verse_pytorch", STAGE3), block_xyz, 8)


def test_empty_examples_have_no_spine(items) -> None:
    recipe = replace(small("payer", STAGE1), empty_share=1.0)
    _, y = draw_of(recipe, items)(np.random.default_rng(0))
    assert y[..., 0].max() == 0
    assert y[..., 1].min() == 1


def test_reference_blocks_are_centred_as_the_reference_does(items) -> None:
    scan = items[STAGE2][0]
    whole = reference_center_mm(
        items[STAGE1][0], np.random.default_rng(0), recipe_for("reference", STAGE1)
    )
    np.testing.assert_allclose(whole, [58, 58, 94])
    recipe = recipe_for("reference", STAGE2)
    centers = [reference_center_mm(scan, np.random.default_rng(k), recipe) for k in range(30)]
    box = np.ptp(scan.marks[:, 1:], axis=0) + 128
    field = np.array(recipe.examples.shape_zyx[::-1]) * 2.0
    spread = np.ptp(centers, axis=0)
    assert np.all(spread <= np.maximum(0, box - field) + 1e-9)


def test_reference_draws_in_the_form_of_examples() -> None:
    """The warp of a block is the reference's map, up to the half-voxel of its node lattice."""
    size, spacing = np.array((64, 48, 96)), np.full(3, 2.0)
    draws = draw_reference(np.random.default_rng(8), ReferenceRanges())
    exact = ReferenceWarp(draws, size, spacing, np.zeros(3))
    block = as_warp(draws, size * spacing)
    points = np.random.default_rng(1).uniform(20, 80, (200, 3))
    middle = (size - 1) * spacing / 2
    gap = np.linalg.norm(exact(points) - block.map_points(points - middle), axis=1)
    assert gap.max() < 0.8
    assert np.linalg.norm(exact(points) - exact(points, elastic=False), axis=1).max() > 3


def test_reference_look_is_the_reference_intensity() -> None:
    hu = np.random.default_rng(0).uniform(-1024, 2500, (4, 5, 6))
    changed = ReferenceAppearance().apply(np.random.default_rng(5), hu)
    expected = draw_reference_intensity(np.random.default_rng(5))(hu)
    np.testing.assert_allclose(np.clip(changed / 2048, -1, 1), expected, atol=1e-6)


def test_shares(items) -> None:
    mixed = [items[STAGE1][0], replace(items[STAGE1][1], group="synthetic")]
    assert shares_of(mixed, ()) == (("real", 1.0), ("synthetic", 1.0))
    assert shares_of(mixed, (("real", 0.7), ("other", 0.3))) == (("real", 0.7),)
    with pytest.raises(DatasetError, match="other"):
        shares_of(mixed, (("other", 1.0),))
    with pytest.raises(DatasetError, match="0 scans"):
        scan_draw(recipe_for("payer", STAGE1), [])
    with pytest.raises(DatasetError, match="found 0"):
        vertebra_draw(recipe_for("payer", STAGE3), holding([]))


def test_losses_by_name() -> None:
    assert "learnable_sigma" in loss_names("rows")
    with pytest.raises(ConfigError, match="point_heatmap"):
        loss_named("mask_loss", "rows")
