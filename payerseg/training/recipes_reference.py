"""The reference's training, REFERENCE.md sections 1, 2 and 6."""

from __future__ import annotations

from dataclasses import replace

from payerseg.config.model_card import ModelCard, SamplingSpec, SCNetSpec, UNetSpec, WindowSpec
from payerseg.training.augment_reference import STAGE3_RANGES, ReferenceLook, ReferenceRanges
from payerseg.training.examples import BlockRecipe, CropRecipe
from payerseg.training.recipe import STAGE1, STAGE2, STAGE3, OptimizerSpec, Recipe, labels_of

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
        look=ReferenceLook(),
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
        window=_REFERENCE_WINDOW,
        warp=STAGE3_RANGES,
        look=ReferenceLook(),
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
