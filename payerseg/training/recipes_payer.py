"""The recipe of the default weights.

What it adds to the reference, each shown to help in docs/training.md: weighted heatmap loss, heads
that start off their saddle, simulated fields of view, slices and kernels, one network width per level.
"""

from __future__ import annotations

from payerseg.config.model_card import LevelNetSpec, ModelCard, SamplingSpec, SCNetSpec, UNetSpec
from payerseg.domain.levels import N_OUTPUTS
from payerseg.training.augment import LookRanges, WarpRanges
from payerseg.training.examples import BlockRecipe, CropRecipe
from payerseg.training.level_examples import LEVEL_BASE_MM, LevelRecipe
from payerseg.training.recipe import (
    LEVELS,
    STAGE1,
    STAGE2,
    STAGE3,
    OptimizerSpec,
    Recipe,
    labels_of,
)


def payer_stage1() -> Recipe:
    """Return the recipe of stage 1: where the spine is."""
    # a linear head: a clipped sigmoid has no gradient left once it says 0 everywhere
    network = UNetSpec(widths=(16, 24, 32, 48), head_stddev=0.05, head_bias=-2.0)
    sampling = SamplingSpec(spacing_mm=8.0, multiple=8, sigma_mm=9.0)
    examples = BlockRecipe(
        shape_zyx=(64, 48, 48),
        spacing_mm=8.0,
        sigma_mm=(9.0,) * 26,
        warp=WarpRanges(
            scale=(0.7, 1.2),
            shift_mm=(90.0, 70.0, 150.0),
            wide_p=0.4,
            flip_p=(0.25, 0.2, 0.0),
            elastic_mm=6.0,
        ),
        look=LookRanges(blur_voxels=0.5, slice_p=0.2),
        slab_p=0.4,
        slab_mm=(50.0, 250.0),
        narrow_p=0.3,
        narrow_mm=(15.0, 80.0),
        cut_margin_mm=5.0,
    )
    return Recipe(
        card=ModelCard(STAGE1, network, sampling, output="logit"),
        examples=examples,
        target="spine_line",
        loss="weighted_cross_entropy",
        # Its gradients are small: one odd example threw Adam off at 1e-3 with a fixed clip.
        optimizer=OptimizerSpec(learning_rate=5e-4, clip_norm=None, running_clip=(3.0, 1.0)),
        iterations=4000,
        pack_spacing_mm=4.0,
        empty_share=0.2,
    )


def payer_stage2() -> Recipe:
    """Return the recipe of stage 2: which vertebra is where."""
    head = {"head_stddev": 0.05, "head_bias": 0.1}
    network = SCNetSpec(
        local=UNetSpec(widths=(16, 24, 32, 48), outputs=26, head_activation="tanh", **head),
        spatial=UNetSpec(widths=(24, 32, 48, 48), inputs=26, outputs=26, repeats=1, **head),
        pool=2,
    )
    sampling = SamplingSpec(spacing_mm=3.0, multiple=16, margin_mm=(30.0, 30.0, 30.0), sigma_mm=5.5)
    # tilted, mirrored and small patients, and short narrow views, are what names go wrong on
    warp = WarpRanges(scale=(0.7, 1.18), wide_p=0.35, flip_p=(0.25, 0.12, 0.0))
    examples = BlockRecipe(warp=warp, slab_p=0.6, slab_mm=(45.0, 190.0), narrow_p=0.4)
    return Recipe(
        card=ModelCard(STAGE2, network, sampling, output="heatmap", channels=labels_of(26)),
        examples=examples,
        target="rows",
        loss="point_heatmap",
        optimizer=OptimizerSpec(),
        iterations=8000,
        pack_spacing_mm=2.0,
    )


def payer_levels() -> Recipe:
    """Return the recipe of stage 2's second network: which level each place is."""
    examples = LevelRecipe()
    sampling = SamplingSpec(
        spacing_mm=examples.spacing_mm,
        multiple=8,
        size_xyz=examples.shape_zyx[::-1],
        window=examples.window,
        base_mm=LEVEL_BASE_MM,
    )
    network = LevelNetSpec(shape_zyx=examples.shape_zyx, outputs=N_OUTPUTS)
    return Recipe(
        card=ModelCard(LEVELS, network, sampling, output="levels"),
        examples=examples,
        target="levels",
        loss="levels",
        optimizer=OptimizerSpec(),
        iterations=12000,
        pack_spacing_mm=LEVEL_BASE_MM,
        batch_size=2,
    )


def payer_stage3() -> Recipe:
    """Return the recipe of stage 3: the mask of one vertebra."""
    network = UNetSpec(widths=(16, 32, 64, 96), inputs=2, head_stddev=0.05, head_bias=-2.0)
    whole = CropRecipe()
    sampling = SamplingSpec(
        spacing_mm=1.0,
        multiple=8,
        size_xyz=whole.shape_zyx[::-1],
        offset_mm=whole.offset_mm,
        sigma_mm=whole.sigma_mm,
    )
    # Blocks half the size of inference's crop, moving about the vertebra: twice the steps per hour.
    examples = CropRecipe(
        shape_zyx=(64, 80, 80), offset_mm=(0.0, 16.0, 0.0), block_jitter_mm=(16.0, 16.0, 10.0)
    )
    return Recipe(
        card=ModelCard(STAGE3, network, sampling, output="logit"),
        examples=examples,
        target="mask",
        loss="logit_dice",
        optimizer=OptimizerSpec(learning_rate=6e-4),
        iterations=8000,
        pack_spacing_mm=1.0,
    )
