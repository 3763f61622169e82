"""The training of one network, from a packed data set to the best weights; stops and resumes anywhere.

Needs numpy, scipy and keras: no image library is imported here or below.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from payerseg import records
from payerseg.atomic import write_text
from payerseg.config.model_card import ModelCard, Source
from payerseg.config.training import TrainingConfig, shares_by_group
from payerseg.errors import ConfigError, DatasetError
from payerseg.inference.device import choose_precision, compile_forward, describe_device
from payerseg.networks.build import build_network, network_multiple
from payerseg.networks.bundle import ModelBundle, assign_weights, network_arrays
from payerseg.training.draws import level_draw, scan_draw, vertebra_draw
from payerseg.training.fit import Example, FitPlan, Listeners, TrainingState, fit
from payerseg.training.folds import Folds, read_or_make_folds
from payerseg.training.history import BestWeights, History, read_best
from payerseg.training.loss_networks import (
    DeeplySupervisedNetwork,
    LearnableSigmaNetwork,
    supervised_spec,
)
from payerseg.training.loss_table import LEARNABLE_SIGMA, loss_named
from payerseg.training.pack_format import (
    PackIndex,
    PackItem,
    ValInput,
    VertebraCache,
    read_scan,
    read_val_input,
    write_arrays,
)
from payerseg.training.recipe import LEVELS, STAGE3, Recipe, with_block, with_widths
from payerseg.training.recipes import recipe_for
from payerseg.training.validation import Scores, picture_of, predict, validate

BEST_WEIGHTS_FILE = "best.npz"
RECORD_FILE = "training.json"
FOLDS_FILE = "folds.json"
SYNTHETIC = "synthetic"
"""The group of items without a patient."""
CHECKPOINT_FILE = "checkpoint.npz"
_N_PICTURES = 3

Progress = Callable[[int, int, dict[str, float]], None]


@dataclass(frozen=True, slots=True)
class StartingWeights:
    """What a card must say of the weights that a training started from.

    Attributes:
        weights_sha256, iterations, hours: of the older card.
        sources: that they have seen.
    """

    weights_sha256: str
    sources: tuple[Source, ...]
    iterations: int
    hours: float


@dataclass(frozen=True, slots=True)
class FinishedTraining:
    """What a model card says about a training: the record in its folder.

    Attributes:
        card: the recipe's, as plain JSON.
        config: what was chosen.
        sources: of the training items.
        iterations, seconds, seed: of the training.
        hardware: it ran on.
        train_items, val_items: numbers.
        best: which weights were kept; None where nothing was validated.
        start: None where the training started from random weights.
    """

    card: Mapping[str, Any]
    config: Mapping[str, Any]
    sources: tuple[Source, ...]
    iterations: int
    seconds: float
    seed: int
    hardware: str
    train_items: int
    val_items: int
    best: BestWeights | None = None
    start: StartingWeights | None = None


@dataclass(frozen=True, slots=True)
class Assignment:
    """Which packed items a training uses.

    Attributes:
        train, val: items of the network.
    """

    train: tuple[PackItem, ...]
    val: tuple[PackItem, ...]


def train_network(
    config: TrainingConfig, folder: Path, progress: Progress | None = None
) -> FinishedTraining:
    """Train one network and return the record of the training.

    Args:
        config: what was chosen.
        folder: checkpoints, history, best weights and record; a training in it is resumed.
        progress: told (step, steps in all, figures) at every report and validation.

    Raises:
        ConfigError: choices that contradict each other or the folder's training.
        DatasetError: the pack lacks what the network needs.
        TrainingDiverged: the loss is no longer a number.
    """
    folder.mkdir(parents=True, exist_ok=True)
    recipe = chosen_recipe(config)
    pack = Path(config.pack)
    assignment = assign_items(PackIndex.read(pack), config, folder)
    plan = make_plan(config, recipe, len(assignment.train))
    _keep_choices(config, recipe, folder)
    monitor = TrainingMonitor(
        recipe.card, read_val_inputs(pack, assignment.val, config), folder, progress
    )
    draw = make_draw(recipe, pack, assignment.train, config)
    network = build_network(recipe.card.network, choose_precision(config.precision), config.seed)
    start = put_initial_weights(network, recipe.card, config)
    trained, loss = with_loss(network, recipe, config)
    if not trained.built and recipe.card.stage != LEVELS:
        small = [min(n, 32) for n in recipe.examples.shape_zyx]
        trained(np.zeros((1, *small, network.input.shape[-1]), np.float32))
    monitor.begin(network, plan, config)
    state = fit(trained, loss, draw, plan, folder, Listeners(monitor.report, monitor.validate))
    monitor.end(state)
    record = make_record(config, recipe, assignment, state)
    record = replace(record, best=read_best(folder), start=start)
    write_text(folder / RECORD_FILE, records.to_json(record, sort_keys=False))
    return record


def chosen_recipe(config: TrainingConfig) -> Recipe:
    """Return the preset's recipe with the configuration's changes."""
    recipe = recipe_for(config.preset, config.network)
    if config.widths is not None:
        network = with_widths(recipe.card.network, config.widths, config.spatial_widths)
        card = replace(recipe.card, network=network)
        recipe = replace(recipe, card=card)
    if config.block_xyz is not None:
        recipe = with_block(recipe, config.block_xyz, network_multiple(recipe.card.network))
    if config.loss is not None:
        recipe = replace(recipe, loss=config.loss)
    if config.learning_rate is not None:
        optimizer = replace(recipe.optimizer, learning_rate=config.learning_rate)
        recipe = replace(recipe, optimizer=optimizer)
    if config.schedule is not None:
        recipe = replace(recipe, optimizer=replace(recipe.optimizer, schedule=config.schedule))
    if config.batch_size is not None:
        recipe = replace(recipe, batch_size=config.batch_size)
    if recipe.loss != LEARNABLE_SIGMA:
        loss_named(recipe.loss, recipe.target)  # refuse early
    if config.deep_supervision:
        supervised_spec(recipe.card.network)
    return recipe


def with_loss(
    network: keras.Model, recipe: Recipe, config: TrainingConfig
) -> tuple[keras.Model, keras.losses.Loss | None]:
    """Return what is fitted, and its loss; None where the loss is part of what is fitted.

    What has variables of its own shares the network's: training it trains the network.
    """
    if config.deep_supervision:
        return DeeplySupervisedNetwork(network, recipe, config.deep_supervision, config.seed), None
    if recipe.loss == LEARNABLE_SIGMA:
        return LearnableSigmaNetwork(network), None
    return network, loss_named(recipe.loss, recipe.target)


def put_initial_weights(
    network: keras.Model, card: ModelCard, config: TrainingConfig
) -> StartingWeights | None:
    """Put a bundle's weights into a new network; a checkpoint, where there is one, wins over them.

    Returns:
        What the new card must say of the old one: sources, iterations, hours, checksum; None where
        the training starts from random weights.

    Raises:
        BundleError: no bundle, another stage's or another network's.
        ConfigError: the bundle's network saw other voxels or meant something else by its output.
    """
    if config.initial_weights is None:
        return None
    bundle = ModelBundle.open(Path(config.initial_weights), card.stage)
    old = bundle.card
    same = {
        "spacing_mm": (old.sampling.spacing_mm, card.sampling.spacing_mm),
        "window": (old.sampling.window, card.sampling.window),
        "output": (old.output, card.output),
        "channels": (old.channels, card.channels),
    }
    for name, (found, expected) in same.items():
        if found != expected:
            msg = (
                f"{config.initial_weights} has {name} {found}, the recipe {expected}: its weights "
                "mean something else; choose another bundle or another preset"
            )
            raise ConfigError(msg)
    assign_weights(network, bundle.weights, config.initial_weights)
    made = old.training
    return StartingWeights(old.weights_sha256, made.sources, made.iterations, made.hours)


def make_plan(config: TrainingConfig, recipe: Recipe, n_items: int) -> FitPlan:
    """Return how long and how fast: iterations win over epochs, both over the preset."""
    per_epoch = max(1, -(-n_items // recipe.batch_size))
    iterations = config.iterations or recipe.iterations
    if config.iterations is None and config.epochs is not None:
        iterations = config.epochs * per_epoch
    optimizer = recipe.optimizer
    return FitPlan(
        iterations=iterations,
        batch_size=recipe.batch_size,
        learning_rate=optimizer.learning_rate,
        clip_norm=optimizer.clip_norm,
        running_clip=optimizer.running_clip,
        amsgrad=optimizer.amsgrad,
        schedule=optimizer.schedule,
        epoch_steps=per_epoch,
        ema=config.ema,
        fixed_norm=config.fixed_norm,
        seed=config.seed,
        workers=config.num_workers,
        save_every=config.save_every,
        validate_every=config.validate_every,
        report_every=config.report_every,
    )


def assign_items(index: PackIndex, config: TrainingConfig, folder: Path) -> Assignment:
    """Divide a network's items into training and validation, by the data's split or by a fold.

    Folds are made over the patients of the pack that the data's split does not keep for validation
    (those choose nothing), and kept in the training's parent folder, so that
    the networks of one output folder share them.

    Raises:
        DatasetError: nothing to train on.
    """
    items = index.of(config.network)
    if config.fold is None:
        train = tuple(item for item in items if item.split != "val")
        val = tuple(item for item in items if item.split == "val")
    else:
        folds = _folds(index, config, folder)
        train_cases, val_cases = (set(cases) for cases in folds.split(config.fold))
        train_cases |= {item.case_id for item in items if item.group == SYNTHETIC}
        train = tuple(item for item in items if item.case_id in train_cases)
        val = tuple(item for item in items if item.case_id in val_cases)
    if not train:
        msg = f"{config.pack} holds nothing to train {config.network} on ({len(items)} items)"
        raise DatasetError(msg)
    return Assignment(train, tuple(item for item in val if item.has_val_input))


def _folds(index: PackIndex, config: TrainingConfig, folder: Path) -> Folds:
    patients = {
        item.case_id: item.patient_id
        for item in index.items
        # synthetic bodies are nobody's: they teach in every fold and measure in none
        if item.split != "val" and item.group != SYNTHETIC
    }
    return read_or_make_folds(folder.parent / FOLDS_FILE, patients, config.folds, config.seed)


def make_draw(
    recipe: Recipe, pack: Path, items: Sequence[PackItem], config: TrainingConfig
) -> Example:
    """Read the training items and return what draws examples from them."""
    shares = shares_by_group(config.group_shares)
    if recipe.card.stage == STAGE3:
        return vertebra_draw(recipe, VertebraCache.of_pack(pack, items), shares)
    if recipe.card.stage == LEVELS:
        return level_draw(recipe, [read_scan(pack, item) for item in items], shares)
    return scan_draw(recipe, [read_scan(pack, item) for item in items], shares)


def read_val_inputs(
    pack: Path, items: Sequence[PackItem], config: TrainingConfig
) -> list[ValInput]:
    """Read the validation items, evenly chosen where there are more than wanted."""
    step = max(1, -(-len(items) // config.max_val_items))
    return [read_val_input(pack, item) for item in items[::step]]


class TrainingMonitor:
    """Listens to a training: history, validation, best weights, progress."""

    def __init__(
        self,
        card: ModelCard,
        inputs: Sequence[ValInput],
        folder: Path,
        progress: Progress | None,
    ) -> None:
        """Prepare; nothing is written before `begin`."""
        self._card = card
        self._inputs = inputs
        self._folder = folder
        self._progress = progress
        self._validated = 0

    def begin(self, network: keras.Model, plan: FitPlan, config: TrainingConfig) -> None:
        """Open the history where the last checkpoint left it."""
        self._network, self._plan = network, plan
        step = checkpoint_step(self._folder)
        self._history = History(self._folder, first_step=step, tensorboard=config.tensorboard)
        best = read_best(self._folder)
        self._validated = best.step if best and best.step <= step else 0
        self._clock = time.monotonic() - self._history.seconds

    def report(self, step: int, loss: float, rate: float) -> None:
        """Write a row and tell the listener."""
        self._history.report(step, self._seconds(), loss, rate)
        self._tell(step, {"loss": loss, "learning_rate": rate})

    def validate(self, model: keras.Model, step: int) -> None:
        """Score the averaged weights; keep them if they are the best so far."""
        del model  # the network holds the same variables, without the loss's own
        self._validated = step
        if not self._inputs:
            return
        scores = self._scores(step)
        self._history.validation(step, self._seconds(), scores.figures)
        if self._history.is_best(step, scores.value, scores.figures):
            write_arrays(self._folder / BEST_WEIGHTS_FILE, network_arrays(self._network))
        self._tell(step, scores.figures)

    def end(self, state: TrainingState) -> None:
        """Judge the last weights if a kill took that away; keep them where nothing else chose."""
        if self._inputs and self._validated < state.step:
            self.validate(self._network, state.step)
        if not self._inputs:
            write_arrays(self._folder / BEST_WEIGHTS_FILE, network_arrays(self._network))
        self._history.close()

    def _scores(self, step: int) -> Scores:
        forward = compile_forward(self._network)
        scores = validate(forward, self._card, self._inputs)
        some = self._inputs[:_N_PICTURES] if self._card.stage != LEVELS else ()
        pictures = [(item.name, picture_of(predict(forward, item), item)) for item in some]
        self._history.pictures(step, pictures)
        return scores

    def _seconds(self) -> float:
        return time.monotonic() - self._clock

    def _tell(self, step: int, figures: dict[str, float]) -> None:
        if self._progress:
            self._progress(step, self._plan.iterations, figures)


def checkpoint_step(folder: Path) -> int:
    """Return the step of the last checkpoint, 0 where there is none."""
    path = folder / CHECKPOINT_FILE
    if not path.is_file():
        return 0
    with np.load(path, allow_pickle=False) as data:
        return int(data["step"])


def make_record(
    config: TrainingConfig, recipe: Recipe, assignment: Assignment, state: TrainingState
) -> FinishedTraining:
    """Return what a model card says about the training."""
    device = describe_device()
    return FinishedTraining(
        card=json.loads(recipe.card.to_json()),
        config=asdict(config),
        sources=sources_of(assignment.train),
        iterations=state.step,
        seconds=round(state.seconds, 1),
        seed=config.seed,
        hardware=f"{device['device']}, {device['cores']} cores, {device['backend']}",
        train_items=len(assignment.train),
        val_items=len(assignment.val),
    )


def sources_of(items: Sequence[PackItem]) -> tuple[Source, ...]:
    """Return every source with its licence and the number of its cases."""
    cases: dict[tuple[str, str, str], set[str]] = {}
    for item in items:
        cases.setdefault((item.source, item.licence, item.group), set()).add(item.case_id)
    return tuple(
        Source(name, licence, len(ids), "" if group == "real" else group)
        for (name, licence, group), ids in sorted(cases.items())
    )


def _keep_choices(config: TrainingConfig, recipe: Recipe, folder: Path) -> None:
    """Refuse to resume a training of another network, data order or schedule.

    Raises:
        ConfigError: names what differs.
    """
    path = folder / "choices.json"
    free = {"resume", "num_workers", "tensorboard", "pack", "report_every", "save_every"}
    free |= {"validate_every", "max_val_items", "command"}
    choices = {key: value for key, value in asdict(config).items() if key not in free}
    choices["card"] = json.loads(recipe.card.to_json())
    choices = json.loads(json.dumps(choices))
    if (folder / CHECKPOINT_FILE).is_file() and path.is_file():
        if not config.resume:
            msg = f"{folder} holds a training; resume it, or choose another output folder"
            raise ConfigError(msg)
        # a training older than an option was one without it
        defaults = json.loads(json.dumps(asdict(TrainingConfig())))
        remedy = "choose another output folder"
        before = defaults | (records.read(dict[str, Any], path, remedy, ConfigError) or {})
        differ = sorted(key for key in choices if before.get(key) != choices[key])
        if differ:
            msg = (
                f"{folder} holds a training with another {', '.join(differ)}; "
                "resume with the same choices, or choose another output folder"
            )
            raise ConfigError(msg)
    write_text(path, records.to_json(choices, sort_keys=False))
