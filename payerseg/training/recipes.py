"""The recipes of the three presets, and the table from preset and network to recipe.

payer, the default weights': what it adds to the reference, each shown to help in docs/training.md, is a
weighted heatmap loss, heads that start off their saddle, simulated fields of view, slices and kernels,
one network width per level. reference: REFERENCE.md sections 1, 2 and 6. verse_pytorch, the second
system: batch-normalised U-Nets, parallel pathways, all classes at once in stage 3.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

from payerseg.config.model_card import (
    LevelNetSpec,
    ModelCard,
    SamplingSpec,
    SCNetSpec,
    UNetSpec,
    WindowSpec,
)
from payerseg.config.training import Network, TrainingPreset
from payerseg.domain.levels import N_OUTPUTS
from payerseg.errors import ConfigError
from payerseg.preprocess.channels import REFERENCE_REACH_SIGMAS
from payerseg.training.augment import AppearanceRanges, WarpRanges
from payerseg.training.augment_reference import STAGE3_RANGES, ReferenceAppearance, ReferenceRanges
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
        appearance=AppearanceRanges(blur_voxels=0.5, slice_p=0.2),
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


_AIR_HU = -1024.0
_REFERENCE_WINDOW = WindowSpec(scale=1 / 2048, shift=0.0, low=-1.0, high=1.0)
_REFERENCE_WIDTH, _REFERENCE_DROPOUT = 96, 0.25


def _reference_sampling(spacing_mm: float, multiple: int, sigma_mm: float) -> SamplingSpec:
    return SamplingSpec(
        spacing_mm=spacing_mm,
        multiple=multiple,
        antialias="none",
        smoothing_mm=(0.75, 0.75),
        window=_REFERENCE_WINDOW,
        outside_hu=_AIR_HU,
        margin_mm=(64.0, 64.0, 64.0),
        sigma_mm=sigma_mm,
        size_rule="reference",
    )


def _reference_unet(levels: int, head_stddev: float | None, inputs: int = 1) -> UNetSpec:
    return UNetSpec(
        widths=(_REFERENCE_WIDTH,) * levels,
        inputs=inputs,
        dropout=_REFERENCE_DROPOUT,
        head_stddev=head_stddev,
    )


def _reference_blocks(
    shape_zyx: tuple[int, int, int], spacing_mm: float, ranges: ReferenceRanges
) -> BlockRecipe:
    """Blocks without what the reference does not do: no simulated fields of view."""
    return BlockRecipe(
        shape_zyx=shape_zyx,
        spacing_mm=spacing_mm,
        window=_REFERENCE_WINDOW,
        warp=ranges,
        appearance=ReferenceAppearance(),
        sigma_mm=(3 * spacing_mm,) * 26,
        slab_p=0.0,
        narrow_p=0.0,
        round_p=0.0,
    )


def reference_stage1() -> Recipe:
    """Return the reference's stage 1."""
    return Recipe(
        card=ModelCard(STAGE1, _reference_unet(5, 1e-4), _reference_sampling(8.0, 32, 24.0)),
        examples=_reference_blocks((128, 64, 64), 8.0, ReferenceRanges()),
        target="spine_reference",
        loss="spine_heatmap_l2",
        optimizer=OptimizerSpec(1e-4, "tenfold", clip_norm=None, running_clip=(5.0, 10.0)),
        iterations=10_000,
        pack_spacing_mm=4.0,
        pick="scan",
    )


def reference_stage2() -> Recipe:
    """Return the reference's stage 2."""
    local = replace(_reference_unet(4, 1e-3), outputs=26, head_activation="tanh")
    spatial = replace(_reference_unet(4, 1e-3, inputs=26), outputs=26, repeats=1)
    return Recipe(
        card=ModelCard(
            STAGE2,
            SCNetSpec(local=local, spatial=spatial),
            _reference_sampling(2.0, 32, 6.0),
            channels=labels_of(26),
        ),
        examples=_reference_blocks((128, 96, 96), 2.0, ReferenceRanges()),
        target="rows",
        loss="heatmap_l2",
        optimizer=OptimizerSpec(1e-4, "tenfold", clip_norm=None, running_clip=(2.0, 10.0)),
        iterations=50_000,
        pack_spacing_mm=1.5,
        pick="scan",
    )


def reference_stage3() -> Recipe:
    """Return the reference's stage 3."""
    sampling = replace(
        _reference_sampling(1.0, 16, 3.0), size_xyz=(128, 128, 96), offset_mm=(0.0, 20.0, 0.0)
    )
    examples = CropRecipe(
        shape_zyx=(96, 128, 128),
        offset_mm=(0.0, 20.0, 0.0),
        sigma_mm=3.0,
        heat_reach_sigmas=REFERENCE_REACH_SIGMAS,
        window=_REFERENCE_WINDOW,
        warp=STAGE3_RANGES,
        appearance=ReferenceAppearance(),
        point_jitter_mm=1.7,  # the reference draws +-3 mm uniformly, an SD of 1.7
        cut_p=0.0,
    )
    return Recipe(
        card=ModelCard(STAGE3, _reference_unet(5, None, inputs=2), sampling, output="logit"),
        examples=examples,
        target="mask",
        loss="sigmoid_cross_entropy",
        optimizer=OptimizerSpec(
            1e-4, "tenfold", amsgrad=True, clip_norm=None, running_clip=(2.0, 1.0)
        ),
        iterations=50_000,
        pack_spacing_mm=1.0,
    )


VERSE_PYTORCH = "verse_pytorch"
_PYTORCH_OPTIMIZER = OptimizerSpec(1e-4, "per_epoch", clip_norm=None)
_PYTORCH_WARP = WarpRanges(
    rotation_rad=(0.2, 0.2, 0.2),
    wide_p=0.0,
    scale=(0.9, 1.1),
    elastic_mm=5.0,
    flip_p=(0.5, 0.0, 0.0),
)
_PYTORCH_CHANNELS = 25
_HEATMAP_HEAD_BIAS = -2.0
"""Heatmaps start near 0, where they belong, but with a gradient; at 0 they would start at one half."""


def _pytorch_unet(
    inputs: int = 1, outputs: int = 1, head: Literal["sigmoid", "softmax"] = "sigmoid"
) -> UNetSpec:
    """The remake's U-Net: 64-128-256-512, convolution - batch norm - ReLU twice per level."""
    return UNetSpec(
        widths=(64, 128, 256, 512),
        inputs=inputs,
        outputs=outputs,
        style="simple",
        activation="relu",
        normalization="batch",
        head_activation=head,
        head_bias=_HEATMAP_HEAD_BIAS if head == "sigmoid" else 0.0,
    )


def _pytorch_blocks(shape_zyx: tuple[int, int, int], spacing_mm: float) -> BlockRecipe:
    return BlockRecipe(
        shape_zyx=shape_zyx,
        spacing_mm=spacing_mm,
        warp=_PYTORCH_WARP,
        appearance=AppearanceRanges(slice_p=0.0, sharpen_p=0.0, cap_p=0.0, blur_p=0.0),
        sigma_mm=(2 * spacing_mm if spacing_mm > 4 else 6.0,) * 26,
        slab_p=0.0,
        narrow_p=0.0,
        round_p=0.0,
    )


def pytorch_stage1() -> Recipe:
    """Return the second system's stage 1."""
    sampling = SamplingSpec(spacing_mm=8.0, multiple=8, sigma_mm=16.0)
    return Recipe(
        card=ModelCard(STAGE1, _pytorch_unet(), sampling, family=VERSE_PYTORCH),
        examples=_pytorch_blocks((128, 64, 64), 8.0),
        target="spine_line",
        loss="soft_dice_mse",
        optimizer=_PYTORCH_OPTIMIZER,
        iterations=10_000,
        pack_spacing_mm=4.0,
    )


def pytorch_stage2() -> Recipe:
    """Return the second system's stage 2: two pathways that both see the image."""
    part = _pytorch_unet(outputs=_PYTORCH_CHANNELS)
    network = SCNetSpec(
        local=part,
        spatial=replace(part, head_activation="linear"),
        spatial_input="image",
        spatial_activation="sigmoid",
        upsampling="linear",
    )
    sampling = SamplingSpec(spacing_mm=2.0, multiple=32, margin_mm=(40.0, 40.0, 40.0), sigma_mm=6.0)
    return Recipe(
        card=ModelCard(
            STAGE2,
            network,
            sampling,
            family=VERSE_PYTORCH,
            channels=labels_of(_PYTORCH_CHANNELS),
        ),
        examples=_pytorch_blocks((128, 96, 96), 2.0),
        target="rows",
        loss="soft_dice_mse",
        optimizer=_PYTORCH_OPTIMIZER,
        iterations=30_000,
        pack_spacing_mm=1.5,
    )


def pytorch_stage3() -> Recipe:
    """All classes at once: image and one distance map per level in, 26 classes out."""
    classes = _PYTORCH_CHANNELS + 1
    sampling = SamplingSpec(
        spacing_mm=1.0,
        multiple=8,
        size_xyz=(96, 96, 128),
        margin_mm=(56.0, 72.0, 40.0),  # from the outermost centres: processes reach 70 mm back
        sigma_mm=6.0,
        offset_mm=(0.0, 15.0, 0.0),
    )
    network = _pytorch_unet(inputs=classes, outputs=classes, head="softmax")
    return Recipe(
        card=ModelCard(
            STAGE3,
            network,
            sampling,
            output="label_probability",
            family=VERSE_PYTORCH,
            channels=(0, *labels_of(_PYTORCH_CHANNELS)),
        ),
        examples=CropRecipe(
            shape_zyx=(128, 96, 96),
            offset_mm=sampling.offset_mm,
            warp=replace(_PYTORCH_WARP, shift_mm=(0.0, 0.0, 0.0)),
            appearance=AppearanceRanges(slice_p=0.0, sharpen_p=0.0, cap_p=0.0, blur_p=0.0),
            cut_p=0.0,
        ),
        target="labels",
        loss="ce_dice",
        optimizer=_PYTORCH_OPTIMIZER,
        iterations=30_000,
        pack_spacing_mm=1.0,
    )


_RECIPES: dict[tuple[str, str], Callable[[], Recipe]] = {
    ("payer", STAGE1): payer_stage1,
    ("payer", STAGE2): payer_stage2,
    ("payer", STAGE3): payer_stage3,
    ("payer", LEVELS): payer_levels,
    ("reference", STAGE1): reference_stage1,
    ("reference", STAGE2): reference_stage2,
    ("reference", STAGE3): reference_stage3,
    ("verse_pytorch", STAGE1): pytorch_stage1,
    ("verse_pytorch", STAGE2): pytorch_stage2,
    ("verse_pytorch", STAGE3): pytorch_stage3,
}


def recipe_for(preset: TrainingPreset, network: Network) -> Recipe:
    """Return the recipe of a preset for one network.

    Raises:
        ConfigError: there is none.
    """
    key = (preset, network)
    if key not in _RECIPES:
        msg = f"there is no recipe for {network} in preset {preset}; known are {sorted(_RECIPES)}"
        raise ConfigError(msg)
    return _RECIPES[key]()
