"""What a training recipe is; the recipes themselves are in `recipes`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from payerseg.config.model_card import LevelNetSpec, ModelCard, NetworkSpec, UNetSpec
from payerseg.config.training import LEVEL_NETWORK, NETWORKS, Schedule
from payerseg.domain.vertebra import Vertebra
from payerseg.errors import ConfigError
from payerseg.training.examples import BlockRecipe, CropRecipe
from payerseg.training.level_examples import LevelRecipe

STAGE1, STAGE2, STAGE3 = NETWORKS
LEVELS = LEVEL_NETWORK


@dataclass(frozen=True, slots=True)
class OptimizerSpec:
    """How steps are taken.

    Attributes:
        learning_rate: highest rate.
        schedule: "cosine" = warm-up, hold, cosine; "tenfold" = rate * 0.1^(t/T); "per_epoch" =
            rate * 0.99 per epoch.
        amsgrad: of Adam.
        clip_norm: of the global gradient; None = not clipped this way.
        running_clip: (factor, first norm): clip at factor * running norm, as the reference does.
    """

    learning_rate: float = 1e-3
    schedule: Schedule = "cosine"
    amsgrad: bool = False
    clip_norm: float | None = 1.0
    running_clip: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that makes one network.

    Attributes:
        card: network, sampling, output and channels, as they go onto the model card.
        examples: how blocks (stages 1, 2), crops (stage 3) or views (levels) are drawn.
        target: what an example asks for: "spine_line" and "spine_reference" (heatmap and weight),
            "rows" (point rows), "mask", "labels" (all classes at once), "levels" (facts of places).
        loss: a name of `loss_table`.
        optimizer: how steps are taken.
        iterations, batch_size: of the preset.
        pack_spacing_mm: of the packed scans, finer than the network's.
        empty_share: share of examples without any spine (stage 1).
        pick: "region" = region, then scan, then vertebra, each uniform; "scan" = scan uniform, then
            the reference's random crop of its box.
    """

    card: ModelCard
    examples: BlockRecipe | CropRecipe | LevelRecipe
    target: Literal["spine_line", "spine_reference", "rows", "mask", "labels", "levels"]
    loss: str
    optimizer: OptimizerSpec
    iterations: int
    pack_spacing_mm: float
    batch_size: int = 1
    empty_share: float = 0.0
    pick: Literal["region", "scan"] = "region"


def with_widths(
    spec: NetworkSpec, widths: tuple[int, ...], spatial: tuple[int, ...] | None = None
) -> NetworkSpec:
    """Return a network with other filters per level; `spatial` is for that part of stage 2's."""
    if isinstance(spec, UNetSpec | LevelNetSpec):
        return replace(spec, widths=widths)
    return replace(
        spec,
        local=replace(spec.local, widths=widths),
        spatial=replace(spec.spatial, widths=spatial or widths),
    )


def with_block(recipe: Recipe, block_xyz: tuple[int, int, int], multiple: int) -> Recipe:
    """Return a recipe that trains on smaller blocks; stage 3's move about inside the recipe's own.

    The model card stays: a convolutional network is used on larger inputs than it was trained on.

    Args:
        recipe: whose blocks are too large.
        block_xyz: voxels.
        multiple: of which the network needs every side to be one.

    Raises:
        ConfigError: a side that is larger than the recipe's, or no such multiple.
    """
    examples = recipe.examples
    if isinstance(examples, LevelRecipe):
        msg = f"block_xyz = {block_xyz}, but a level network's view has one size: {examples.shape_zyx}"
        raise ConfigError(msg)
    shape, full = block_xyz[::-1], examples.shape_zyx
    if any(n > most or n % multiple for n, most in zip(shape, full, strict=True)):
        msg = (
            f"block_xyz = {block_xyz}; expected at most {full[::-1]} and multiples of {multiple}, "
            "as the network halves its input several times"
        )
        raise ConfigError(msg)
    room_mm = tuple(
        (most - n) / 2 * examples.spacing_mm for n, most in zip(block_xyz, full[::-1], strict=True)
    )
    if isinstance(examples, CropRecipe):
        moving = replace(examples, shape_zyx=shape, block_jitter_mm=room_mm)
        return replace(recipe, examples=moving)
    return replace(recipe, examples=replace(examples, shape_zyx=shape))


def labels_of(n_channels: int) -> tuple[int, ...]:
    """Return the VerSe labels of the first channels."""
    return tuple(Vertebra.from_channel(c).verse_label for c in range(n_channels))
