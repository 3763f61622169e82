"""Training from Python: the configuration, networks, data sets and trainers of a whole system.

    config = payerseg.SystemConfig.of("verse_pytorch", pack="pack")
    bundle = payerseg.StageTrainer(config.spine_localization, "trainings").train(num_epochs=100)

The very code of `payerseg train`, in this process: what it writes, `payerseg train` goes on with, and
the other way round. The engine under Keras is chosen by KERAS_BACKEND before the first call.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from payerseg.config.training import (
    BUNDLES_FOLDER,
    NETWORKS,
    Network,
    TrainingConfig,
    TrainingPreset,
    load_training_config,
)
from payerseg.datasets.discover import discover
from payerseg.driver.training import training_name
from payerseg.errors import ConfigError
from payerseg.networks.build import build_network
from payerseg.training.export import export_bundle
from payerseg.training.fit import Inputs
from payerseg.training.pack import PackPlan, PackReport, pack_dataset
from payerseg.training.pack_format import PackIndex
from payerseg.training.session import (
    Progress,
    assign_items,
    chosen_recipe,
    make_draw,
    train_network,
)

SPINE, VERTEBRAE, VERTEBRA = NETWORKS


@dataclass(frozen=True, slots=True)
class SystemConfig:
    """How a whole system is trained: one part for each stage, each as of `payerseg train`."""

    spine_localization: TrainingConfig
    vertebrae_localization: TrainingConfig
    vertebrae_segmentation: TrainingConfig

    @classmethod
    def of(
        cls,
        preset: TrainingPreset = "verse_pytorch",
        pack: Path | str = "",
        overrides: Iterable[str] = (),
    ) -> SystemConfig:
        """Return a preset's configuration.

        Args:
            preset: which recipe.
            pack: folder that `prepare_data` wrote.
            overrides: settings for all stages, as of `--set`: "training.widths=[8, 16]". For one stage
                alone use `dataclasses.replace`.

        Raises:
            ConfigError: an unknown key, a wrong type, out of range.
        """
        flags: dict[str, Any] = {"preset": preset, "pack": str(pack)}
        texts = tuple(overrides)
        parts = {
            network: load_training_config(overrides=texts, flags=flags | {"network": network})
            for network in NETWORKS
        }
        return cls(**parts)


def prepare_data(
    data: Path | str, pack: Path | str, preset: TrainingPreset = "verse_pytorch"
) -> PackReport:
    """Pack a data set for a preset's networks, as `payerseg train prepare` does.

    Args:
        data: folder of `images/`, `landmarks/`, `segmentations/`, `train.txt`, `val.txt`, or of another
            layout that docs/train-your-own.md names.
        pack: folder to write.
        preset: whose spacings.

    Raises:
        DatasetError: nothing can be trained on.
    """
    return pack_dataset(discover(Path(data)), PackPlan(Path(pack), preset))


def build_stage_network(config: TrainingConfig) -> Any:
    """Return a stage's network with its initial weights, a `keras.Model`.

    (b, z, y, x, channel) goes in and comes out.

    Raises:
        ConfigError: the configuration describes no network.
    """
    return build_network(chosen_recipe(config).card.network, seed=config.seed)


class StageDataset:
    """The examples that a stage's training draws: `len`, and (x, y) by index.

    Example i depends on the configuration's seed and on i alone. An epoch is one example per case, in
    stage 3 one per masked vertebra.

    | stage | x | y |
    |---|---|---|
    | spine_localization | (z, y, x, 1) | (z, y, x, 2): spine heatmap and weight of the loss |
    | vertebrae_localization | (z, y, x, 1) | (26, 6): z, y, x and sigma in voxels, present, weight |
    | vertebrae_segmentation | (z, y, x, 2): image and point heatmap | (z, y, x, 1): this vertebra |
    | the same, verse_pytorch | (z, y, x, 26): image, a distance map per level | (z, y, x, 1): class |

    Heatmaps of stage 2 are drawn from y by the loss, on the device.

    Args:
        config: of the stage.
        stage: which one it must be; None takes the configuration's.

    Raises:
        ConfigError: the configuration is another stage's.
        DatasetError: the pack cannot be used.
    """

    def __init__(self, config: TrainingConfig, stage: Network | None = None) -> None:
        _check_stage(config, stage)
        recipe, pack = chosen_recipe(config), Path(config.pack)
        items = assign_items(PackIndex.read(pack), config, pack).train
        self._draw = make_draw(recipe, pack, items, config)
        self._seed, self._length = config.seed, len(items)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> tuple[Inputs, np.ndarray]:
        if not 0 <= index < self._length:
            msg = f"example {index} of {self._length}"
            raise IndexError(msg)
        return self._draw(np.random.default_rng((self._seed, index)))


class StageTrainer:
    """Trains one stage's network in this process.

    Args:
        config: of the stage.
        output: the training lies in `<output>/<stage>`; one that is there is resumed.
        stage: which one it must be; None takes the configuration's.

    Raises:
        ConfigError: the configuration is another stage's.
    """

    def __init__(
        self, config: TrainingConfig, output: Path | str, stage: Network | None = None
    ) -> None:
        _check_stage(config, stage)
        self._config, self._output = config, Path(output)

    def train(self, num_epochs: int, progress: Progress | None = None) -> Path:
        """Train for so many passes over the data and return the bundle of the best weights.

        A training that was cut short goes on where it was; another number of epochs needs another
        output folder, as the schedule is part of a training. `progress` is told (step, steps in all,
        figures).

        Raises:
            ConfigError, DatasetError, TrainingDiverged: as `payerseg train`.
        """
        config = replace(self._config, epochs=num_epochs, iterations=None)
        name = training_name(config)
        train_network(config, self._output / name, progress)
        bundle = self._output / BUNDLES_FOLDER / name
        export_bundle(self._output / name, bundle)
        return bundle


# As the PyTorch remake has a class per stage: the same classes, with the stage given.
SpineDataset = partial(StageDataset, stage=SPINE)
LandmarkDataset = partial(StageDataset, stage=VERTEBRAE)
SegmentationDataset = partial(StageDataset, stage=VERTEBRA)
SpineTrainer = partial(StageTrainer, stage=SPINE)
LandmarkTrainer = partial(StageTrainer, stage=VERTEBRAE)
SegmentationTrainer = partial(StageTrainer, stage=VERTEBRA)


def _check_stage(config: TrainingConfig, stage: Network | None) -> None:
    if stage is not None and config.network != stage:
        msg = f"the configuration is for {config.network}; expected {stage}"
        raise ConfigError(msg)
