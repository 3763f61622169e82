"""Checkpoints of the reference and of the VerSe-2020 challenge code (TensorFlow) → our bundles.

Such a checkpoint names variables by attribute path: `model/unet/contracting_layers/level0/layers/2/
kernel/.ATTRIBUTES/VARIABLE_VALUE`. Every variable below `model/` must find its place in the network
(REFERENCE §2); optimiser state and counters are left behind.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from payerseg.config.model_card import (
    ModelCard,
    NetworkSpec,
    SamplingSpec,
    SCNetSpec,
    TrainingRecord,
    UNetSpec,
    WindowSpec,
)
from payerseg.domain.vertebra import Vertebra
from payerseg.errors import BundleError
from payerseg.networks.tensor_bundle import TensorBundle

SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"
SLOT = "/.OPTIMIZER_SLOT/"
NOT_OF_A_NETWORK = ("_CHECKPOINTABLE_OBJECT_GRAPH", "optimizer/", "save_counter/", "sigmas/")
"""Beginnings of names that belong to training; "sigmas" are the loss's learnable heatmap widths."""

CONVOLUTION = re.compile(
    r"model/(?P<net>unet|scnet_local|scnet_spatial)/(?P<side>contracting|expanding)_layers/"
    r"level(?P<level>\d+)/layers/(?P<place>\d+)/(?P<variable>kernel|bias)"
)
HEADS = {
    "model/prediction/layers/0": "head",
    "model/local_heatmaps/layers/0": "local_head",
    "model/spatial_heatmaps": "spatial_head",
}
PREFIXES = {"unet": "", "scnet_local": "local_", "scnet_spatial": "spatial_"}

REFERENCE_SAMPLING = SamplingSpec(
    spacing_mm=8.0,
    multiple=32,
    antialias="none",
    smoothing_mm=(0.75, 0.75),
    window=WindowSpec(scale=1 / 2048, shift=0.0, low=-1.0, high=1.0),
    outside_hu=-1024.0,
    sigma_mm=24.0,
    size_rule="reference",
)
"""Stage 1 (REFERENCE §1): target sigma 3 voxels of 8 mm."""
SAMPLINGS = {
    "spine_localization": REFERENCE_SAMPLING,
    "vertebrae_localization": replace(
        REFERENCE_SAMPLING, spacing_mm=2.0, margin_mm=(64.0, 64.0, 64.0), sigma_mm=6.0
    ),
    "vertebrae_segmentation": replace(
        REFERENCE_SAMPLING,
        spacing_mm=1.0,
        size_xyz=(128, 128, 96),
        offset_mm=(0.0, 20.0, 0.0),
        sigma_mm=6.0,
    ),
}
DROPOUT = 0.25
HEAD_STDDEVS = {"spine_localization": 1e-4, "vertebrae_localization": 1e-3}

Shapes = Mapping[str, tuple[int, ...]]


def import_checkpoint(prefix: Path, stage: str) -> tuple[ModelCard, dict[str, np.ndarray]]:
    """Read a checkpoint as the network of a stage.

    Args:
        prefix: path of the checkpoint without `.index`.
        stage: "spine_localization", "vertebrae_localization" or "vertebrae_segmentation".

    Returns:
        The card (with the reference's sampling) and the variables by our paths.

    Raises:
        BundleError: not a checkpoint, damaged, or one with a variable that does not fit.
    """
    if stage not in SAMPLINGS:
        msg = f"there is no network for stage {stage!r}; expected one of {sorted(SAMPLINGS)}"
        raise BundleError(msg)
    bundle = TensorBundle(prefix)
    shapes = {name: entry.shape for name, entry in bundle.entries.items()}
    names, spec = map_variables(shapes, stage, str(prefix))
    arrays = {ours: bundle.read(theirs).astype(np.float32) for ours, theirs in names.items()}
    return imported_card(stage, spec, prefix.name), arrays


def map_variables(shapes: Shapes, stage: str, source: str) -> tuple[dict[str, str], NetworkSpec]:
    """Find each of our variables among the checkpoint's.

    Args:
        shapes: checkpoint name → shape, of everything in it.
        stage: whose network it should be.
        source: named in errors.

    Returns:
        Our path → checkpoint name, and the network that the shapes describe.

    Raises:
        BundleError: a missing, left-over or mis-shaped variable, by name.
    """
    theirs = sorted(name for name in shapes if _is_of_network(name))
    names = _our_paths(theirs, source)
    expected = expected_shapes(spec := _derive_spec(names, shapes, stage, source))
    for ours in sorted(set(expected) | set(names)):
        if ours not in names:
            msg = f"{source}: the variable for {ours} {expected[ours]} is missing"
            raise BundleError(msg)
        found = shapes[names[ours]]
        if ours not in expected:
            msg = f"{source}: {names[ours]} {found} is left over; the network of {stage} lacks it"
            raise BundleError(msg)
        if found != expected[ours]:
            msg = f"{source}: {names[ours]} has shape {found}; expected {expected[ours]} ({ours})"
            raise BundleError(msg)
    return names, spec


def imported_card(stage: str, spec: NetworkSpec, name: str) -> ModelCard:
    """Return the card of a checkpoint, with the reference's pre-processing."""
    return ModelCard(
        stage=stage,
        network=spec,
        sampling=SAMPLINGS[stage],
        output="logit" if stage == "vertebrae_segmentation" else "heatmap",
        channels=tuple(v.verse_label for v in sorted(Vertebra, key=lambda v: v.channel))
        if isinstance(spec, SCNetSpec)
        else (),
        training=TrainingRecord(notes=f"imported from the TensorFlow checkpoint {name}"),
    )


def expected_shapes(spec: UNetSpec | SCNetSpec) -> dict[str, tuple[int, ...]]:
    """Return our path → shape for a network in the reference's style."""
    if isinstance(spec, UNetSpec):
        return _unet_shapes(spec, "")
    return {**_unet_shapes(spec.local, "local_"), **_unet_shapes(spec.spatial, "spatial_")}


def _unet_shapes(spec: UNetSpec, prefix: str) -> dict[str, tuple[int, ...]]:
    widths = spec.widths
    shapes: dict[str, tuple[int, ...]] = {}
    for level, width in enumerate(widths):
        deepest = level == len(widths) - 1
        above = spec.inputs if level == 0 else widths[level - 1]
        below = width if deepest else width + widths[level + 1]
        for side, first in (("contracting", above), ("expanding", below)):
            for i in range(spec.repeats):
                layer = f"{prefix}{side}{level}_conv{i}"
                shapes[f"{layer}/kernel"] = (3, 3, 3, first if i == 0 else width, width)
                shapes[f"{layer}/bias"] = (width,)
    shapes[f"{prefix}head/kernel"] = (1, 1, 1, widths[0], spec.outputs)
    shapes[f"{prefix}head/bias"] = (spec.outputs,)
    return shapes


def _is_of_network(name: str) -> bool:
    return SLOT not in name and not name.startswith(NOT_OF_A_NETWORK)


def _our_paths(theirs: Iterable[str], source: str) -> dict[str, str]:
    """Return our path → their name; dropout layers leave gaps in the numbering within a level."""
    names: dict[str, str] = {}
    blocks: dict[str, dict[int, list[tuple[str, str]]]] = defaultdict(lambda: defaultdict(list))
    for name in theirs:
        path = name.removesuffix(SUFFIX)
        match = CONVOLUTION.fullmatch(path)
        layer, _, variable = path.rpartition("/")
        if match:
            block = f"{PREFIXES[match['net']]}{match['side']}{match['level']}"
            blocks[block][int(match["place"])].append((match["variable"], name))
        elif layer in HEADS and variable in ("kernel", "bias"):
            names[f"{HEADS[layer]}/{variable}"] = name
        else:
            msg = f"{source}: {name} is left over; no network of the reference has such a variable"
            raise BundleError(msg)
    for block, places in blocks.items():
        for i, place in enumerate(sorted(places)):
            names.update({f"{block}_conv{i}/{kind}": name for kind, name in places[place]})
    return names


def _derive_spec(
    names: Mapping[str, str], shapes: Shapes, stage: str, source: str
) -> UNetSpec | SCNetSpec:
    """Read levels, widths, repeats and channels off the shapes."""
    if stage != "vertebrae_localization":
        return _derive_unet(names, shapes, "", source, HEAD_STDDEVS.get(stage))
    stddev = HEAD_STDDEVS[stage]
    local = _derive_unet(names, shapes, "local_", source, stddev)
    spatial = _derive_unet(names, shapes, "spatial_", source, stddev)
    return SCNetSpec(local=replace(local, head_activation="tanh"), spatial=spatial)


def _derive_unet(
    names: Mapping[str, str], shapes: Shapes, prefix: str, source: str, head_stddev: float | None
) -> UNetSpec:
    def shape_of(path: str) -> tuple[int, ...]:
        if path not in names:
            msg = (
                f"{source}: the variable for {path} is missing; is this another stage's checkpoint?"
            )
            raise BundleError(msg)
        shape, rank = shapes[names[path]], 1 if path.endswith("bias") else 5
        if len(shape) != rank:
            msg = f"{source}: {names[path]} has shape {shape}; expected {rank} dimensions ({path})"
            raise BundleError(msg)
        return shape

    pattern = re.compile(rf"{prefix}contracting(\d+)_conv(\d+)/kernel")
    found = [match for match in map(pattern.fullmatch, names) if match]
    levels = 1 + max((int(match[1]) for match in found), default=0)
    return UNetSpec(
        widths=tuple(shape_of(f"{prefix}contracting{i}_conv0/bias")[-1] for i in range(levels)),
        inputs=shape_of(f"{prefix}contracting0_conv0/kernel")[-2],
        outputs=shape_of(f"{prefix}head/bias")[-1],
        repeats=1 + max(int(match[2]) for match in found),
        dropout=DROPOUT,
        head_stddev=head_stddev,
    )
