"""What may be chosen for a training: where the data lie, how long, how fast. Standard library only.

A choice left out (None) takes the preset's value; presets are the recipes of `training/recipes.py`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from payerseg.config.load import parse_override, read_toml, section_from_dict
from payerseg.config.model_card import LEVELS_FOLDER
from payerseg.config.option import check_options, option
from payerseg.config.schema import Precision
from payerseg.errors import ConfigError

TrainingPreset = Literal["payer", "reference", "verse_pytorch"]
Network = Literal[
    "spine_localization",
    "vertebrae_localization",
    "vertebrae_segmentation",
    "vertebra_levels",
]
Schedule = Literal["cosine", "tenfold", "per_epoch"]
NETWORKS: tuple[Network, ...] = (
    "spine_localization",
    "vertebrae_localization",
    "vertebrae_segmentation",
)
LEVEL_NETWORK: Network = "vertebra_levels"
"""Stage 2's second network: names what the first one found."""
LEVELS_PRESET: TrainingPreset = "payer"
"""The only recipe that has a level network."""
DENSE_NETWORKS: tuple[Network, ...] = ("spine_localization", "vertebrae_segmentation")
"""Trained on a map of targets; the other one on points."""
SECTION = "training"
BUNDLES_FOLDER = "bundles"
"""Below a training's output folder: finished bundles, named as the trainings."""
TRAINING_PRESETS: tuple[TrainingPreset, ...] = get_args(TrainingPreset)


def bundle_place(training: str) -> str:
    """Return where the bundle of a training lies among others: the level network's in stage 2's."""
    return f"{NETWORKS[1]}/{LEVELS_FOLDER}" if training == LEVEL_NETWORK else training


@dataclass(frozen=True, slots=True)
class TrainingConfig:
    """The training of one network."""

    network: Network = option("spine_localization", "which stage's network")
    preset: TrainingPreset = option(
        "payer",
        "recipe: payer = the default weights', reference = the published one, "
        "verse_pytorch = the second system's",
    )
    pack: str = option("", "folder written by `payerseg train prepare`")
    epochs: int | None = option(
        None, "passes over the data, one example per item; or iterations", at_least=1
    )
    iterations: int | None = option(None, "optimiser steps; wins over epochs", at_least=1)
    batch_size: int | None = option(None, "examples per step", at_least=1)
    learning_rate: float | None = option(None, "highest learning rate", at_least=0)
    num_workers: int = option(1, "threads that draw examples", at_least=1, at_most=64)
    seed: int = option(0, "of the initial weights, the data order and the augmentation", at_least=0)
    fold: int | None = option(
        None, "validate on this part of the patients, counted from 0; left out = the data's split"
    )
    folds: int = option(3, "parts the patients are divided into when a fold is asked for")
    resume: bool = option(True, "go on from the last checkpoint, where there is one")
    initial_weights: str | None = option(
        None, "model bundle whose weights a new training starts from; left out = random ones"
    )
    precision: Precision = option("auto", "arithmetic; heads and the optimiser stay in float32")
    widths: tuple[int, ...] | None = option(
        None, "filters per level, finest first; both parts of a stage-2 network", at_least=1
    )
    spatial_widths: tuple[int, ...] | None = option(
        None,
        "filters per level of the spatial part of a stage-2 network, which sees few voxels; left out "
        "= widths",
        at_least=1,
    )
    block_xyz: tuple[int, int, int] | None = option(
        None,
        "voxels of a training block, smaller than the recipe's; a smaller one is faster, and what "
        "the network is used on stays as it is",
        at_least=8,
    )
    schedule: Schedule | None = option(
        None,
        "how the rate falls: cosine = to 3 % at the end, tenfold = to a tenth, per_epoch = by 1 % "
        "an epoch; left out = the recipe's",
    )
    fixed_norm: float = option(
        0.0,
        "share of the steps, at the end, in which batch normalisation uses its running averages, as "
        "at inference",
        at_least=0,
        at_most=1,
    )
    loss: str | None = option(None, "another loss than the recipe's; see docs/training.md")
    ema: float = option(
        0.998, "decay of the averaged weights per step; 0 = none", at_least=0, at_most=0.99999
    )
    deep_supervision: float = option(
        0.0,
        "weight w of the loss on the decoder's next coarser level, the others w^2, w^3, …; 0 = off; "
        "stages 1 and 3 only",
        at_least=0,
        at_most=1,
    )
    group_shares: tuple[str, ...] = option(
        (), "share of the draws per group of the pack, e.g. real=0.6, synthetic=0.4; () = by size"
    )
    save_every: int = option(250, "steps between checkpoints", at_least=1)
    validate_every: int = option(500, "steps between validations", at_least=1)
    report_every: int = option(25, "steps between lines of the history", at_least=1)
    max_val_items: int = option(64, "validation items used, evenly chosen", at_least=1)
    tensorboard: bool = option(True, "write TensorBoard event files")
    command: str = option("", "how the training was asked for; goes onto the model card")

    def __post_init__(self) -> None:
        check_options(self)
        if self.fold is not None and not 0 <= self.fold < self.folds:
            msg = f"fold = {self.fold}; expected 0 to {self.folds - 1} (folds = {self.folds})"
            raise ConfigError(msg)
        if self.deep_supervision and self.network not in DENSE_NETWORKS:
            msg = (
                f"deep_supervision = {self.deep_supervision} for {self.network}; it compares maps "
                f"on coarser grids, which only {' and '.join(DENSE_NETWORKS)} are trained on: "
                "leave it out here, or train with --stage 1 or 3"
            )
            raise ConfigError(msg)
        shares_by_group(self.group_shares)


def load_training_config(
    file: Path | None = None, overrides: Iterable[str] = (), flags: dict[str, Any] | None = None
) -> TrainingConfig:
    """Resolve a training's configuration: defaults < file's [training] < overrides < flags.

    Args:
        file: TOML with a [training] table.
        overrides: "training.key=value".
        flags: values of the command line; None means not given.

    Raises:
        ConfigError: unreadable, an unknown key, a wrong type, out of range.
    """
    values: dict[str, Any] = {}
    if file is not None:
        values.update(_section_of(read_toml(file), str(file)))
    for text in overrides:
        values.update(_section_of(parse_override(text), f"--set {text}"))
    values.update({key: value for key, value in (flags or {}).items() if value is not None})
    return section_from_dict(TrainingConfig, values, "training")


def shares_by_group(texts: Iterable[str]) -> tuple[tuple[str, float], ...]:
    """Read "real=0.6" pairs.

    Raises:
        ConfigError: not such a pair, or a negative share.
    """
    out = []
    for text in texts:
        name, equals, share = text.partition("=")
        try:
            value = float(share)
        except ValueError:
            value = -1.0
        if not equals or not name.strip() or value < 0:
            msg = f"group_shares {text!r}; expected name=share, e.g. synthetic=0.4"
            raise ConfigError(msg)
        out.append((name.strip(), value))
    return tuple(out)


def _section_of(table: dict[str, Any], where: str) -> dict[str, Any]:
    unknown = set(table) - {SECTION}
    if unknown or not isinstance(table.get(SECTION, {}), dict):
        msg = f"{where}: a training reads the table [{SECTION}] only, found {sorted(table)}"
        raise ConfigError(msg)
    return table.get(SECTION, {})
