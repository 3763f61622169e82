"""The loop's parts: schedules, order of data, clipping, averages, checkpoints."""

from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest

from payerseg.errors import TrainingDiverged
from payerseg.networks.layers import FixableBatchNormalization
from payerseg.training.fit import (
    ExampleFeed,
    FitPlan,
    Listeners,
    RunningNormAdam,
    build_optimizer,
    fit,
    learning_rate_at,
    load_checkpoint,
)
from payerseg.training.loss_networks import ALPHA, GAMMA, LearnableSigmaNetwork

PLAN = FitPlan(iterations=1000, learning_rate=1e-3, warm_up=10, hold=0.5, final_share=0.1)


def test_cosine_schedule() -> None:
    assert learning_rate_at(PLAN, 0) == pytest.approx(1e-4)
    assert learning_rate_at(PLAN, 9) == pytest.approx(1e-3)
    assert learning_rate_at(PLAN, 500) == pytest.approx(1e-3)
    assert learning_rate_at(PLAN, 750) == pytest.approx(5.5e-4)
    assert learning_rate_at(PLAN, 1000) == pytest.approx(1e-4)


def test_schedules_of_the_others() -> None:
    tenfold = replace(PLAN, schedule="tenfold")
    assert learning_rate_at(tenfold, 0) == 1e-3
    assert learning_rate_at(tenfold, 1000) == pytest.approx(1e-4)
    per_epoch = replace(PLAN, schedule="per_epoch", epoch_steps=100)
    assert learning_rate_at(per_epoch, 99) == 1e-3
    assert learning_rate_at(per_epoch, 250) == pytest.approx(1e-3 * 0.99**2)


def numbers(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    x = rng.normal(size=3).astype(np.float32)
    return x, x.sum(keepdims=True)


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_data_order_does_not_depend_on_workers_or_the_start(workers: int) -> None:
    plan = FitPlan(iterations=12, batch_size=2, workers=workers, seed=9)
    whole, late = ExampleFeed(numbers, plan, 0), ExampleFeed(numbers, plan, 7)
    batches = [whole.batch()[0] for _ in range(12)]
    assert batches[0].shape == (2, 3)
    for step in range(7, 12):
        np.testing.assert_array_equal(late.batch()[0], batches[step])
    whole.close()
    late.close()
    expected = [numbers(np.random.default_rng((9, k)))[0] for k in (6, 7)]
    np.testing.assert_array_equal(batches[3], expected)


def test_a_failing_draw_fails_the_training() -> None:
    def broken(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        msg = "no such scan"
        raise OSError(msg)

    feed = ExampleFeed(broken, FitPlan(iterations=3), 0)
    with pytest.raises(OSError, match="no such scan"):
        feed.batch()
    feed.close()


def line_model() -> keras.Model:
    inputs = keras.Input((3,))
    hidden = keras.layers.Dropout(0.2, seed=1)(keras.layers.Dense(4)(inputs))
    return keras.Model(inputs, keras.layers.Dense(1)(hidden))


def normalized_model() -> keras.Model:
    inputs = keras.Input((3,))
    norm = FixableBatchNormalization(momentum=0.9, name="norm")
    inner = keras.Model(inputs, norm(keras.layers.Dense(4)(inputs)))
    return keras.Model(inputs, keras.layers.Dense(1)(inner(inputs)))


SHORT = FitPlan(iterations=30, batch_size=4, learning_rate=0.02, save_every=10, report_every=5)


@pytest.mark.parametrize("plan", [SHORT, replace(SHORT, ema=0.0, running_clip=(2.0, 1.0))])
def test_resumed_in_the_middle_of_dropout_and_clipping(plan: FitPlan, tmp_path: Path) -> None:
    """Dropout's generator and the running norm are part of a checkpoint."""
    first = line_model()
    start = first.get_weights()
    fit(first, keras.losses.MeanSquaredError(), numbers, plan, tmp_path / "straight")

    def stop(step: int, loss: float, rate: float) -> None:
        if step >= 15:
            raise KeyboardInterrupt

    for listeners in (Listeners(report=stop), None):
        model = line_model()
        model.set_weights(start)
        try:
            fit(
                model,
                keras.losses.MeanSquaredError(),
                numbers,
                plan,
                tmp_path / "cut",
                listeners,
            )
        except KeyboardInterrupt:
            continue
    for a, b in zip(first.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_averages_follow_the_weights(tmp_path: Path) -> None:
    model, seen = line_model(), []

    def look(averaged: keras.Model, step: int) -> None:
        seen.append((step, averaged.get_weights()[0].copy()))

    plan = replace(SHORT, validate_every=15)
    state = fit(
        model, keras.losses.MeanSquaredError(), numbers, plan, tmp_path, Listeners(validate=look)
    )
    assert [step for step, _ in seen] == [15, 30]
    np.testing.assert_array_equal(seen[-1][1], state.average[0])
    np.testing.assert_array_equal(model.get_weights()[0], state.average[0])
    last = line_model()
    last.compile(build_optimizer(plan), "mse")
    last.optimizer.build(last.trainable_variables)
    restored = load_checkpoint(last, tmp_path)
    assert restored is not None
    assert restored.step == 30
    assert np.abs(last.get_weights()[0] - state.average[0]).max() > 1e-5


def test_a_loss_that_is_no_number_ends_the_training(tmp_path: Path) -> None:
    def poison(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        x, y = numbers(rng)
        return x, y * np.nan

    with pytest.raises(TrainingDiverged, match="step 0"):
        fit(line_model(), keras.losses.MeanSquaredError(), poison, SHORT, tmp_path)


def test_clipping_at_the_running_norm() -> None:
    variable = keras.Variable(np.zeros(2, np.float32))
    optimizer = RunningNormAdam(0.1, clip_factor=2.0, first_norm=1.0)
    optimizer.build([variable])
    norms = []
    for gradient in ([3.0, 4.0], [0.3, 0.4], [np.inf, 1.0]):
        optimizer.apply([keras.ops.convert_to_tensor(np.array(gradient, np.float32))], [variable])
        norms.append(float(keras.ops.convert_to_numpy(optimizer.running_norm)))
    assert norms[0] == pytest.approx(0.99 + 0.01 * 2.0)  # |g| = 5 is clipped at 2
    assert norms[1] == pytest.approx(0.99 * norms[0] + 0.01 * 0.5)
    assert norms[2] == norms[1]  # a gradient that is not finite changes nothing
    assert np.all(np.isfinite(keras.ops.convert_to_numpy(variable)))
    again = RunningNormAdam.from_config(optimizer.get_config())
    assert (again.clip_factor, again.first_norm) == (2.0, 1.0)


def test_learnable_sigma_loss_is_the_formula() -> None:
    inputs = keras.Input((None, None, None, 1))
    network = keras.Model(inputs, keras.layers.Conv3D(2, 1, data_format="channels_last")(inputs))
    model = LearnableSigmaNetwork(network)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1, 8, 9, 10, 1)).astype(np.float32)
    rows = np.zeros((1, 26, 6), np.float32)
    rows[0, 0] = (3.2, 4.1, 5.0, 2.0, 1, 1)
    rows[0, 1] = (3.2, 4.1, 5.0, 2.0, 0, 1)
    answer = keras.ops.convert_to_numpy(model(x))
    squared = sum(
        (i - p) ** 2 for i, p in zip(np.indices((8, 9, 10)), (3.2, 4.1, 5.0), strict=True)
    )
    target = np.zeros((8, 9, 10, 2))  # the second one is not there
    target[..., 0] = GAMMA / ((2 * np.pi) ** 1.5 * 4.0**3) * np.exp(-squared / (2 * 4.0**2))
    expected = 0.5 * ((answer[0] - target) ** 2).sum() + ALPHA / 2 * 16
    found = float(model.compute_loss(x, rows, model(x)))
    assert found == pytest.approx(float(expected), rel=1e-4)
    rows[0, 0, 5] = 0  # not known: teaches nothing
    rows[0, 1, 5] = 0
    assert float(model.compute_loss(x, rows, model(x))) == pytest.approx(0, abs=1e-6)


def test_sigmas_learn(tmp_path: Path) -> None:
    inputs = keras.Input((None, None, None, 1))
    network = keras.Model(inputs, keras.layers.Conv3D(1, 1, data_format="channels_last")(inputs))
    model = LearnableSigmaNetwork(network)

    def draw(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        rows = np.zeros((1, 6), np.float32)
        rows[0] = (4, 4, 4, 2.0, 1, 1)
        return rng.normal(size=(8, 8, 8, 1)).astype(np.float32), rows

    model(np.zeros((1, 8, 8, 8, 1), np.float32))
    plan = FitPlan(iterations=10, learning_rate=0.05, warm_up=1, ema=0.0, save_every=100)
    fit(model, None, draw, plan, tmp_path)
    sigma = float(keras.ops.convert_to_numpy(model.sigmas)[0])
    assert sigma < 3.9  # the penalty outweighs the error of an untrained network


def statistics(model: keras.Model) -> np.ndarray:
    return np.stack(
        [w for v, w in zip(model.weights, model.get_weights(), strict=True) if "moving" in v.path]
    )


def test_normalization_is_trained_as_it_is_used(tmp_path: Path) -> None:
    """From the chosen step on the running averages stand still, a resumed training's too."""
    plan = replace(SHORT, fixed_norm=0.4, ema=0.5)
    loss, start, seen = keras.losses.MeanSquaredError(), normalized_model(), {}
    weights = start.get_weights()

    def note(step: int, loss: float, rate: float) -> None:
        seen[step] = statistics(start)

    fit(start, loss, numbers, plan, tmp_path / "straight", Listeners(report=note))
    assert np.ptp([seen[5], seen[10], seen[15]], axis=0).max() > 0.01
    for step in (25, 30):
        np.testing.assert_array_equal(seen[step], seen[20])
    again = normalized_model()
    again.set_weights(weights)

    def stop(step: int, loss: float, rate: float) -> None:
        if step >= 25:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(again, loss, numbers, plan, tmp_path / "cut", Listeners(report=stop))
    resumed = normalized_model()
    fit(resumed, loss, numbers, plan, tmp_path / "cut")
    for a, b in zip(start.get_weights(), resumed.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
