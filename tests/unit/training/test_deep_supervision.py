"""Coarser levels that answer too: the targets they see, the loss, where it applies."""

from dataclasses import replace

import keras
import numpy as np
import pytest
from keras import ops

from payerseg.config.model_card import NetworkSpec, SCNetSpec
from payerseg.errors import ConfigError
from payerseg.networks.build import build_network
from payerseg.training.loss_networks import (
    DeeplySupervisedNetwork,
    coarse_levels,
    coarser,
    supervised_spec,
)
from payerseg.training.loss_table import class_shares, loss_named
from payerseg.training.recipe import STAGE1, STAGE2, STAGE3, Recipe, with_widths
from payerseg.training.recipes import recipe_for

RNG = np.random.default_rng(5)
SIDE = 8
DENSE = [
    ("payer", STAGE1),
    ("payer", STAGE3),
    ("reference", STAGE1),
    ("reference", STAGE3),
    ("verse_pytorch", STAGE1),
    ("verse_pytorch", STAGE3),
]


def small(preset: str, network: str) -> Recipe:
    recipe = recipe_for(preset, network)  # type: ignore[arg-type]
    spec = replace(with_widths(recipe.card.network, (2, 3, 4, 5)), dropout=0.0)
    return replace(recipe, card=replace(recipe.card, network=spec))


def target_of(recipe: Recipe) -> np.ndarray:
    shape = (2, SIDE, SIDE, SIDE)
    if recipe.target == "labels":
        return RNG.integers(0, 4, (*shape, 1)).astype(np.float32)
    if recipe.target == "mask":
        return (RNG.random((*shape, 1)) > 0.7).astype(np.float32)
    heat = RNG.random((*shape, 2)).astype(np.float32)
    heat[..., 1] = RNG.random(shape) > 0.3
    return heat


def block_means(array: np.ndarray) -> np.ndarray:
    b, z, y, x, c = array.shape
    return array.reshape(b, z // 2, 2, y // 2, 2, x // 2, 2, c).mean(axis=(2, 4, 6))


def numpy_of(tensor: object) -> np.ndarray:
    return keras.ops.convert_to_numpy(tensor)


def test_a_coarser_mask_is_the_part_of_each_block() -> None:
    mask = target_of(small("payer", STAGE3))
    found = numpy_of(coarser(ops.convert_to_tensor(mask), "mask"))
    np.testing.assert_allclose(found, block_means(mask), atol=1e-6)


def test_what_is_not_known_does_not_enter_a_coarser_heatmap() -> None:
    target = target_of(small("payer", STAGE1))
    target[:, :2, :2, :2, 1] = 0  # a block of which nothing is known
    other = target.copy()
    other[..., 0] = np.where(target[..., 1] > 0, target[..., 0], 7.0)
    found = numpy_of(coarser(ops.convert_to_tensor(target), "heat"))
    np.testing.assert_allclose(
        numpy_of(coarser(ops.convert_to_tensor(other), "heat")), found, atol=1e-6
    )
    np.testing.assert_allclose(found[..., 1:], block_means(target[..., 1:]), atol=1e-6)
    assert np.all(found[:, 0, 0, 0] == 0)
    block, known = target[0, 2:4, :2, :2, 0], target[0, 2:4, :2, :2, 1]
    assert found[0, 1, 0, 0, 0] == pytest.approx(block[known > 0].mean(), rel=1e-5)


def test_coarser_labels_are_shares_of_classes() -> None:
    labels = target_of(small("verse_pytorch", STAGE3))
    shares = class_shares(ops.convert_to_tensor(labels), 26)
    for _ in range(2):
        shares = coarser(shares, "labels")
    found = numpy_of(shares)
    assert found.shape == (2, 2, 2, 2, 26)
    np.testing.assert_allclose(found.sum(axis=-1), 1, atol=1e-6)
    assert found[0, 0, 0, 0, 3] == pytest.approx((labels[0, :4, :4, :4] == 3).mean(), abs=1e-6)


@pytest.mark.parametrize(("preset", "network"), DENSE)
def test_the_loss_is_the_weighted_mean_of_the_levels(preset: str, network: str) -> None:
    """And the finest answer is the network's own."""
    recipe = small(preset, network)
    model = build_network(recipe.card.network)
    deep = DeeplySupervisedNetwork(model, recipe, 0.4, seed=1)
    x = RNG.normal(size=(2, SIDE, SIDE, SIDE, model.input.shape[-1])).astype(np.float32)
    y = target_of(recipe)
    answers = deep(x)
    assert [a.shape[1] for a in answers] == [8, 4, 2]
    np.testing.assert_array_equal(numpy_of(answers[0]), numpy_of(model(x)))
    kind = {"mask": "mask", "labels": "labels"}.get(recipe.target, "heat")
    target = ops.convert_to_tensor(y)
    if kind == "labels":
        target = class_shares(target, 26)
    loss, values = loss_named(recipe.loss, recipe.target), []
    for level, answer in enumerate(answers):
        target = coarser(target, kind) if level else target
        grows = 8**level if recipe.loss == "spine_heatmap_l2" else 1
        values.append(grows * float(numpy_of(loss(target, answer))))
    first = float(numpy_of(loss(ops.convert_to_tensor(y), model(x))))
    assert values[0] == pytest.approx(first, rel=1e-6)
    expected = (values[0] + 0.4 * values[1] + 0.16 * values[2]) / 1.56
    found = float(numpy_of(deep.compute_loss(x, ops.convert_to_tensor(y), answers)))
    assert found == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", ["spine_heatmap_l2", "weighted_cross_entropy", "soft_dice_mse"])
def test_levels_weigh_alike_whatever_their_size(name: str) -> None:
    """An answer equally wrong on every grid costs the same on each: sums are not lost by size."""
    recipe = replace(small("payer", STAGE1), loss=name)
    deep = DeeplySupervisedNetwork(build_network(recipe.card.network), recipe, 1.0, seed=1)
    y = np.full((1, 32, 32, 32, 2), 0.5, np.float32)
    y[..., 1] = 1
    answers = [np.full((1, n, n, n, 1), 0.8, np.float32) for n in (32, 16, 8)]
    found = float(numpy_of(deep.compute_loss(None, y, answers)))
    alone = float(numpy_of(loss_named(name, "spine_line")(y, answers[0])))
    assert found == pytest.approx(alone, rel=0.05)


def test_one_step_moves_every_head_and_the_shared_network() -> None:
    recipe = small("payer", STAGE3)
    model = build_network(recipe.card.network)
    deep = DeeplySupervisedNetwork(model, recipe, 0.4, seed=1)
    names = {variable.path for variable in model.weights}
    own = [v for v in deep.trainable_variables if v.path not in names]
    assert sorted(v.path for v in own) == [
        f"head{level}/{part}" for level in (1, 2) for part in ("bias", "kernel")
    ]
    assert len(deep.weights) == len(model.weights) + len(own)
    before = {v.path: numpy_of(v).copy() for v in deep.trainable_variables}
    deep.compile(optimizer=keras.optimizers.SGD(100.0), loss=None)
    x = RNG.normal(size=(2, SIDE, SIDE, SIDE, 2)).astype(np.float32)
    deep.train_on_batch(x, target_of(recipe))
    for variable in deep.trainable_variables:
        assert np.any(numpy_of(variable) != before[variable.path]), variable.path


def test_heads_start_as_the_card_says_and_by_the_seed() -> None:
    recipe = small("payer", STAGE3)

    def head(seed: int) -> np.ndarray:
        deep = DeeplySupervisedNetwork(build_network(recipe.card.network), recipe, 0.4, seed)
        assert float(numpy_of(deep.get_layer("head1").bias)[0]) == recipe.card.network.head_bias
        return numpy_of(deep.get_layer("head1").kernel)

    np.testing.assert_array_equal(head(1), head(1))
    assert np.any(head(1) != head(2))


@pytest.mark.parametrize(
    "spec",
    [
        recipe_for("payer", STAGE2).card.network,
        with_widths(recipe_for("payer", STAGE1).card.network, (4, 4)),
    ],
)
def test_a_network_without_coarser_levels_is_refused(spec: NetworkSpec) -> None:
    found = "two U-Nets" if isinstance(spec, SCNetSpec) else r"2 level\(s\)"
    with pytest.raises(ConfigError, match=found + r".*deep_supervision"):
        supervised_spec(spec)


def test_levels_in_between_are_supervised() -> None:
    spec = recipe_for("payer", STAGE3).card.network
    assert len(spec.widths) == 4
    assert list(coarse_levels(supervised_spec(spec))) == [1, 2]
