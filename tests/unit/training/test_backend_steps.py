"""Every backend trains alike: losses of a few steps against numbers recorded on TensorFlow.

Weights and data come from numpy, so nothing random of a backend takes part. To record anew:
`python tests/unit/training/test_backend_steps.py` from the repository, under TensorFlow.
"""

import json
import tempfile
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest

from payerseg.config.training import NETWORKS, TRAINING_PRESETS
from payerseg.networks.build import build_network, network_channels, network_multiple
from payerseg.training.fit import FitPlan, Listeners, fit
from payerseg.training.loss_networks import DeeplySupervisedNetwork
from payerseg.training.loss_table import loss_named
from payerseg.training.recipe import STAGE1, STAGE3, Recipe, with_widths
from payerseg.training.recipes import recipe_for

GOLDEN = Path(__file__).parents[2] / "golden" / "data" / "training_steps.json"
STEPS, TOLERANCE = 3, 1e-4
DEEPER_TOLERANCE = 1e-3
"""Of three levels: Adam's first steps are as long where the gradient is within rounding of 0."""
ALL = [(preset, network, 0.0) for preset in TRAINING_PRESETS for network in NETWORKS]
ALL += [
    ("payer", STAGE1, 0.4),
    ("payer", STAGE3, 0.4),
    ("verse_pytorch", STAGE3, 0.4),
]  # with deep supervision


def target_of(recipe: Recipe, rng: np.random.Generator, shape: tuple[int, int, int]) -> np.ndarray:
    if recipe.target == "rows":
        rows = np.zeros((26, 6), np.float32)
        rows[:, :3] = rng.uniform(0, shape, (26, 3))
        rows[:, 3:] = (2.0, 1, 1)
        rows[::3, 4] = 0
        rows[::7, 5] = 0
        return rows
    if recipe.target == "labels":
        return rng.integers(0, 4, (*shape, 1)).astype(np.float32)
    if recipe.target == "mask":
        return (rng.random((*shape, 1)) > 0.8).astype(np.float32)
    return rng.random((*shape, 2)).astype(np.float32)


def key_of(preset: str, network: str, deep: float) -> str:
    return f"{preset}/{network}" + (f"/deep_supervision={deep}" if deep else "")


def losses_of(preset: str, network: str, deep: float, folder: Path) -> list[float]:
    """Train a tiny network of a recipe for a few steps and return its losses."""
    recipe = recipe_for(preset, network)  # type: ignore[arg-type]
    spec = with_widths(recipe.card.network, (3, 4, 5) if deep else (3, 4))
    without = {"dropout": 0.0}  # dropout draws from the backend
    if hasattr(spec, "dropout"):
        spec = replace(spec, **without)
    else:
        spec = replace(
            spec, local=replace(spec.local, **without), spatial=replace(spec.spatial, **without)
        )
    model, loss = build_network(spec), loss_named(recipe.loss, recipe.target)
    if deep:
        recipe = replace(recipe, card=replace(recipe.card, network=spec))
        model, loss = DeeplySupervisedNetwork(model, recipe, deep, seed=0), None
    rng = np.random.default_rng(11)
    model.set_weights(
        [
            np.abs(rng.normal(0, 0.3, w.shape)) + 0.5
            if "variance" in v.path or "gamma" in v.path
            else rng.normal(0, 0.3, w.shape)
            for v, w in zip(model.weights, model.get_weights(), strict=True)
        ]
    )
    side = 2 * network_multiple(spec)
    shape = (side, side, side)
    inputs, _ = network_channels(spec)

    def draw(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        x = rng.normal(size=(*shape, inputs)).astype(np.float32)
        return x, target_of(recipe, rng, shape)

    optimizer = recipe.optimizer
    plan = FitPlan(
        iterations=STEPS,
        batch_size=2,
        learning_rate=1e-3,
        warm_up=1,
        clip_norm=optimizer.clip_norm,
        running_clip=optimizer.running_clip,
        amsgrad=optimizer.amsgrad,
        schedule=optimizer.schedule,
        report_every=1,
    )
    told: list[float] = []
    listeners = Listeners(report=lambda _step, loss, _rate: told.append(loss))
    fit(model, loss, draw, plan, folder, listeners)
    return told


@pytest.mark.parametrize(("preset", "network", "deep"), ALL)
def test_steps_are_the_same_on_every_backend(
    preset: str, network: str, deep: float, tmp_path: Path
) -> None:
    golden = json.loads(GOLDEN.read_text())[key_of(preset, network, deep)]
    found = losses_of(preset, network, deep, tmp_path)
    np.testing.assert_allclose(found, golden, rtol=DEEPER_TOLERANCE if deep else TOLERANCE)
    assert golden[0] != golden[1]


if __name__ == "__main__":
    assert keras.backend.backend() == "tensorflow"
    record = {}
    for one in ALL:
        with tempfile.TemporaryDirectory() as where:
            record[key_of(*one)] = losses_of(*one, Path(where))
    GOLDEN.write_text(json.dumps(record, indent=1) + "\n")
