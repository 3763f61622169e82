"""The second system: batch-normalised U-Nets, parallel pathways, all classes at once in stage 3."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from payerseg.config.model_card import ModelCard, SamplingSpec, SCNetSpec, UNetSpec
from payerseg.training.augment import LookRanges, WarpRanges
from payerseg.training.examples import BlockRecipe, CropRecipe
from payerseg.training.recipe import STAGE1, STAGE2, STAGE3, OptimizerSpec, Recipe, labels_of

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
        look=LookRanges(slice_p=0.0, sharpen_p=0.0, cap_p=0.0, blur_p=0.0),
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
            look=LookRanges(slice_p=0.0, sharpen_p=0.0, cap_p=0.0, blur_p=0.0),
            cut_p=0.0,
        ),
        target="labels",
        loss="ce_dice",
        optimizer=_PYTORCH_OPTIMIZER,
        iterations=30_000,
        pack_spacing_mm=1.0,
    )
