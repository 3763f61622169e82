"""The fit loop: examples in, weights out; stops and resumes anywhere.

Example i is drawn from the seed (seed, i) alone and the learning rate is a function of the iteration,
so a run that was killed and resumed goes through the same data and the same schedule.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np
from keras import ops

from payerseg.atomic import replacing
from payerseg.errors import TrainingDiverged
from payerseg.inference.device import training_needs_xla
from payerseg.networks.layers import FixableBatchNormalization

AHEAD_PER_WORKER = 3
"""Batches drawn before they are needed, per thread."""

Array = np.ndarray
Inputs = Array | tuple[Array, ...]
Example = Callable[[np.random.Generator], tuple[Inputs, Array]]


@dataclass(frozen=True, slots=True)
class FitPlan:
    """How long and how fast to train.

    Attributes:
        iterations: optimiser steps in all.
        batch_size: examples per step.
        learning_rate: highest rate.
        warm_up: steps from zero to it.
        hold: share of the steps at it before the cosine decay.
        final_share: last rate as a share of the highest.
        clip_norm: of the global gradient.
        ema: decay of the averaged weights per step.
        fixed_norm: share of the steps, at the end, with the running averages of batch normalisation.
        seed: of data order and augmentation.
        workers: threads that draw examples.
        save_every, report_every: steps.
        schedule: "cosine" = warm-up, hold, cosine; "tenfold" = rate * 0.1^(t/T), the reference's;
            "per_epoch" = rate * 0.99 per `epoch_steps`, the remake's.
        epoch_steps: steps of one pass over the data.
        amsgrad: of Adam.
        running_clip: (factor, first norm) of the reference's clipping, instead of `clip_norm`.
        validate_every: steps; None = at every checkpoint.
    """

    iterations: int = 4000
    batch_size: int = 1
    learning_rate: float = 1e-3
    warm_up: int = 50
    hold: float = 0.35
    final_share: float = 0.03
    clip_norm: float | None = 1.0
    ema: float = 0.998
    fixed_norm: float = 0.0
    seed: int = 0
    workers: int = 1
    save_every: int = 250
    report_every: int = 50
    schedule: Literal["cosine", "tenfold", "per_epoch"] = "cosine"
    epoch_steps: int = 1000
    amsgrad: bool = False
    running_clip: tuple[float, float] | None = None
    validate_every: int | None = None


def learning_rate_at(plan: FitPlan, step: int) -> float:
    """Return the rate of a step by the plan's schedule."""
    if plan.schedule == "tenfold":
        return plan.learning_rate * 0.1 ** (step / plan.iterations)
    if plan.schedule == "per_epoch":
        return plan.learning_rate * 0.99 ** (step // plan.epoch_steps)
    if step < plan.warm_up:
        return plan.learning_rate * (step + 1) / plan.warm_up
    start = plan.hold * plan.iterations
    if step <= start:
        return plan.learning_rate
    t = min(1.0, (step - start) / max(1.0, plan.iterations - start))
    low = plan.final_share
    return plan.learning_rate * (low + (1 - low) * 0.5 * (1 + math.cos(math.pi * t)))


class ExampleFeed:
    """Draws batches in threads, in order, ahead of the optimiser.

    Args:
        draw: makes one example from a generator.
        plan: batch size, seed, threads and last step.
        start: first step that will be asked for.
    """

    def __init__(self, draw: Example, plan: FitPlan, start: int) -> None:
        self._draw, self._plan, self._next, self.start = draw, plan, start, start
        self._threads = ThreadPoolExecutor(plan.workers, thread_name_prefix="examples")
        self._ahead: deque[Future[tuple[Inputs, Array]]] = deque()
        self._fill()

    def batch(self) -> tuple[Inputs, Array]:
        """Return the next step's batch, stacked.

        Raises:
            Exception: whatever drawing this batch raised.
        """
        coming = self._ahead.popleft()
        self._fill()
        return coming.result()

    def close(self) -> None:
        """Forget what is still to be drawn and let the threads end."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _fill(self) -> None:
        while len(self._ahead) < AHEAD_PER_WORKER * self._plan.workers:
            if self._next >= self._plan.iterations:
                return
            self._ahead.append(self._threads.submit(self._make, self._next))
            self._next += 1

    def _make(self, step: int) -> tuple[Inputs, Array]:
        first = step * self._plan.batch_size
        pairs = [
            self._draw(np.random.default_rng((self._plan.seed, first + k)))
            for k in range(self._plan.batch_size)
        ]
        y = np.stack([y for _, y in pairs])
        if isinstance(pairs[0][0], tuple):
            return tuple(np.stack(parts) for parts in zip(*(x for x, _ in pairs), strict=True)), y
        return np.stack([x for x, _ in pairs]), y


@dataclass(slots=True)
class TrainingState:
    """What a checkpoint holds; `average` are the averaged weights."""

    step: int
    average: list[Array]
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Listeners:
    """Who is told how a training goes.

    Attributes:
        report: called every `report_every` steps with step, mean loss and rate.
        validate: called at validation steps with the model holding the averaged weights.
    """

    report: Callable[[int, float, float], None] = lambda _step, _loss, _rate: None
    validate: Callable[[keras.Model, int], None] | None = None


def fit(
    model: keras.Model,
    loss: keras.losses.Loss,
    draw: Example,
    plan: FitPlan,
    folder: Path,
    listeners: Listeners | None = None,
) -> TrainingState:
    """Train a model, resuming from `folder` when it holds a checkpoint.

    Args:
        model: built, not compiled.
        loss: compares a batch of targets with the model's output.
        draw: makes one example from a generator.
        plan: how long and how fast.
        folder: checkpoints.
        listeners: told how it goes.

    Returns:
        The last state; the model holds the averaged weights.

    Raises:
        TrainingDiverged: the loss is no longer a number.
    """
    listeners = listeners or Listeners()
    folder.mkdir(parents=True, exist_ok=True)
    optimizer = build_optimizer(plan)
    model.compile(optimizer=optimizer, loss=loss, jit_compile=training_needs_xla())
    optimizer.build(model.trainable_variables)
    state = load_checkpoint(model, folder) or TrainingState(
        0, [w.copy() for w in model.get_weights()]
    )
    feed = ExampleFeed(draw, plan, state.step)
    losses: list[float] = []
    fix_at = fixing_step(plan)
    clock = time.monotonic()
    try:
        for step in range(state.step, plan.iterations):
            if step == max(fix_at, feed.start):
                fix_normalization(model, state)
            optimizer.learning_rate.assign(learning_rate_at(plan, step))
            x, y = feed.batch()
            losses.append(_finite(float(model.train_on_batch(x, y)), step))
            state.step = step + 1
            _average(state, model, plan)
            if state.step % plan.report_every == 0:
                listeners.report(state.step, float(np.mean(losses)), learning_rate_at(plan, step))
                losses = []
            if state.step % plan.save_every == 0 or state.step == plan.iterations:
                state.seconds += time.monotonic() - clock
                clock = time.monotonic()
                save_checkpoint(model, state, folder)
            if listeners.validate and is_validation_step(plan, state.step):
                _validate(model, state, listeners.validate)
    finally:
        feed.close()
    model.set_weights(state.average)
    return state


def fixing_step(plan: FitPlan) -> int:
    """Return the first step with fixed normalisation; the step after the last where there is none."""
    return plan.iterations - round(plan.fixed_norm * plan.iterations)


def fix_normalization(model: keras.Model, state: TrainingState) -> None:
    """From now on train with the statistics of inference: the averages over many steps."""
    averages = dict(zip((v.path for v in model.weights), state.average, strict=True))
    for layer in _normalizations(model):
        layer.fixed = True
        for variable in (layer.moving_mean, layer.moving_variance):
            variable.assign(averages[variable.path])
    model.make_train_function(force=True)


def _normalizations(model: keras.Model) -> Iterator[FixableBatchNormalization]:
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _normalizations(layer)
        elif isinstance(layer, FixableBatchNormalization):
            yield layer


def build_optimizer(plan: FitPlan) -> keras.optimizers.Optimizer:
    """Return the plan's Adam."""
    if plan.running_clip is not None:
        factor, first_norm = plan.running_clip
        return RunningNormAdam(
            plan.learning_rate, amsgrad=plan.amsgrad, clip_factor=factor, first_norm=first_norm
        )
    return keras.optimizers.Adam(
        plan.learning_rate, amsgrad=plan.amsgrad, global_clipnorm=plan.clip_norm
    )


def is_validation_step(plan: FitPlan, step: int) -> bool:
    """Tell whether the averaged weights are looked at after a step."""
    every = plan.validate_every or plan.save_every
    return step % every == 0 or step == plan.iterations


def _finite(loss: float, step: int) -> float:
    if not math.isfinite(loss):
        msg = (
            f"the loss is {loss} at step {step}; nothing after the last checkpoint is kept. "
            "Train with a lower learning rate, or in float32, and look at: payerseg train check"
        )
        raise TrainingDiverged(msg)
    return loss


AVERAGE_EVERY = 8
"""Steps between updates of the averaged weights: copying them at each step would cost time."""


def _average(state: TrainingState, model: keras.Model, plan: FitPlan) -> None:
    if plan.ema <= 0:
        if is_validation_step(plan, state.step) or state.step % plan.save_every == 0:
            state.average = model.get_weights()
        return
    if state.step % AVERAGE_EVERY and state.step != plan.iterations:
        return
    # The young average forgets faster, or it would remember the random start.
    keep = min(plan.ema**AVERAGE_EVERY, state.step / (state.step + 10 * AVERAGE_EVERY))
    values = model.get_weights()
    state.average = [
        (keep * mean + (1 - keep) * value).astype(value.dtype)
        for mean, value in zip(state.average, values, strict=True)
    ]


def _validate(
    model: keras.Model, state: TrainingState, validate: Callable[[keras.Model, int], None]
) -> None:
    """Look at the averaged weights, then put the others back."""
    kept = model.get_weights()
    model.set_weights(state.average)
    validate(model, state.step)
    model.set_weights(kept)


def save_checkpoint(model: keras.Model, state: TrainingState, folder: Path) -> None:
    """Write weights, optimiser, averages and step in one file, replaced in one move."""
    arrays = {"step": np.asarray(state.step), "seconds": np.asarray(state.seconds)}
    groups = {
        "weight": model.get_weights(),
        "average": state.average,
        "optimizer": [keras.ops.convert_to_numpy(v) for v in model.optimizer.variables],
        "seed": [keras.ops.convert_to_numpy(v) for v in _seeds(model)],
    }
    for group, values in groups.items():
        arrays.update({f"{group}_{i}": np.asarray(v) for i, v in enumerate(values)})
    with replacing(folder / "checkpoint.npz", durable=True) as temporary:
        np.savez(temporary, **arrays)


def _seeds(model: keras.Model) -> list[keras.Variable]:
    """Return the states of dropout's generators; they are no weights, but resuming needs them."""
    return [variable for variable in model.variables if "seed_generator" in variable.path]


def load_checkpoint(model: keras.Model, folder: Path) -> TrainingState | None:
    """Put a checkpoint's weights and optimiser into a compiled model; None where there is none."""
    path = folder / "checkpoint.npz"
    if not path.is_file():
        return None
    with np.load(path, allow_pickle=False) as data:

        def values(group: str) -> list[Array]:
            n = sum(key.startswith(group + "_") for key in data.files)
            return [data[f"{group}_{i}"] for i in range(n)]

        model.set_weights(values("weight"))
        kept = [*model.optimizer.variables, *_seeds(model)]
        for variable, value in zip(kept, values("optimizer") + values("seed"), strict=True):
            variable.assign(value)
        return TrainingState(int(data["step"]), values("average"), float(data["seconds"]))


KEEP = 0.99


@keras.saving.register_keras_serializable("payerseg")
class RunningNormAdam(keras.optimizers.Adam):
    """Adam whose gradients are clipped at a factor times their running norm.

    n <- 0.99 n + 0.01 min(|g|, clip), clip = factor * n, only when |g| is finite (REFERENCE.md
    section 6); a step whose gradient is not finite changes nothing.

    Args:
        learning_rate: of Adam.
        amsgrad: of Adam.
        clip_factor: 5 in stage 1, 2 in stages 2 and 3.
        first_norm: 10 in stages 1 and 2, 1 in stage 3.
        name: of the optimiser.
    """

    def __init__(
        self,
        learning_rate: float = 1e-4,
        *,
        amsgrad: bool = False,
        clip_factor: float = 2.0,
        first_norm: float = 10.0,
        name: str = "running_norm_adam",
    ) -> None:
        super().__init__(learning_rate, amsgrad=amsgrad, name=name)
        self.clip_factor = clip_factor
        self.first_norm = first_norm

    def build(self, variables: list) -> None:
        """Add the running norm to Adam's own state."""
        if not self.built:
            self.running_norm = self.add_variable(
                shape=(), initializer=keras.initializers.Constant(self.first_norm), name="norm"
            )
        super().build(variables)

    def apply(self, grads: list, trainable_variables: list | None = None) -> Any:
        """Clip, remember the norm, and step."""
        if not self.built:
            self.build(trainable_variables or [])
        total = sum(ops.sum(ops.square(ops.cast(g, "float32"))) for g in grads if g is not None)
        norm = ops.sqrt(total)
        finite = ops.isfinite(norm)
        before = ops.convert_to_tensor(self.running_norm)
        clip = self.clip_factor * before
        seen = ops.where(finite, ops.minimum(norm, clip), before)
        scale = ops.where(finite, ops.minimum(1.0, clip / ops.maximum(norm, 1e-12)), 0.0)
        self.assign(self.running_norm, KEEP * before + (1 - KEEP) * seen)
        clipped = [
            None
            if g is None
            else ops.where(finite, g, ops.zeros_like(g)) * ops.cast(scale, g.dtype)
            for g in grads
        ]
        return super().apply(clipped, trainable_variables)

    def get_config(self) -> dict[str, Any]:
        """Return what builds this optimiser again."""
        return {
            "learning_rate": float(ops.convert_to_numpy(self.learning_rate)),
            "amsgrad": self.amsgrad,
            "clip_factor": self.clip_factor,
            "first_norm": self.first_norm,
            "name": self.name,
        }
