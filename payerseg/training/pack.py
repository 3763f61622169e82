"""Pack a data set: scans and masks become arrays at the networks' spacing, once.

Training then needs no medical image library (`pack_format` says what lies where). Scans go through
the same preparation and the same `preprocess.inputs` as at inference: what a validation item shows
the network is, bit for bit, what the stage would show it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from payerseg.config.model_card import SamplingSpec
from payerseg.config.schema import PreparationConfig
from payerseg.config.training import NETWORKS, Network, TrainingPreset
from payerseg.datasets.cases import CaseFiles, Dataset, TrainingCase, with_centers
from payerseg.datasets.discover import DEFAULT_RULES, ReadingRules, read_case
from payerseg.domain.grid import Grid
from payerseg.domain.landmarks import Landmark, Landmarks
from payerseg.domain.spine_box import SpineBox
from payerseg.domain.vertebra import Vertebra
from payerseg.domain.volume import Volume
from payerseg.errors import DatasetError, GridMismatch, PayersegError
from payerseg.imaging.files import read_volume
from payerseg.imaging.resample import resample, sample_smoothly
from payerseg.preprocess.frames import centred_grid, vertebra_frame
from payerseg.preprocess.inputs import (
    network_input,
    smooth_in_steps,
    spine_input,
    vertebra_input,
    vertebrae_input,
)
from payerseg.preprocess.preparation import prepare_scan
from payerseg.training.pack_format import PackIndex, PackItem, item_path, val_path, write_arrays
from payerseg.training.recipe import LEVELS, STAGE1, STAGE3, Recipe
from payerseg.training.recipes import recipe_for

HU_RANGE = (-1024, 3000)
BLOCK_SHAPE_ZYX = (128, 144, 160)
"""Stage-3 blocks: room for a crop turned by half a radian around every axis."""
BLOCK_OFFSET_MM = (0.0, 20.0, 0.0)


@dataclass(frozen=True, slots=True)
class PackPlan:
    """What to pack.

    Attributes:
        folder: of the pack; items are added to what is there.
        preset: whose spacings and samplings.
        networks: which stages.
        group: name of the draws' group, "real" or "synthetic".
        rules: how marks are read.
        val_inputs: write exact network inputs for all cases ("all": needed for --fold), for
            validation cases only ("val"), or none.
    """

    folder: Path
    preset: TrainingPreset = "payer"
    networks: tuple[Network, ...] = NETWORKS
    group: str = "real"
    rules: ReadingRules = field(default_factory=lambda: DEFAULT_RULES)
    val_inputs: str = "val"


@dataclass(frozen=True, slots=True)
class PackReport:
    """What became of each case: packed items, or the reason why there are none."""

    items: tuple[PackItem, ...]
    skipped: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class OpenCase:
    """A case with its arrays in memory."""

    case: TrainingCase
    ct: Volume
    labels: Volume | None


def pack_dataset(
    dataset: Dataset, plan: PackPlan, progress: Callable[[int, int, str], None] | None = None
) -> PackReport:
    """Pack every case of a data set.

    Args:
        dataset: from `discover`.
        plan: what to pack, where.
        progress: told (done, total, case_id) after each case.

    Returns:
        The items written; cases that cannot be used with their reasons. The index is written last.

    Raises:
        DatasetError: no case can be used, or the pack holds another sampling.
    """
    recipes = {network: recipe_for(plan.preset, network) for network in plan.networks}
    sampling = {
        n: json.loads(json.dumps(asdict(recipe.card.sampling))) for n, recipe in recipes.items()
    }
    known = PackIndex.read(plan.folder) if (plan.folder / "index.json").is_file() else PackIndex()
    known.merged((), sampling)
    items: list[PackItem] = []
    skipped: list[tuple[str, str]] = []
    for done, files in enumerate(dataset.cases, start=1):
        try:
            made = [] if files.split == "test" else list(pack_case(files, plan, recipes))
            items += made
            if not made:
                unfit = "no position or mask that can be used"
                reason = "a test case is not for training" if files.split == "test" else unfit
                skipped.append((files.case_id, reason))
        except PayersegError as error:
            skipped.append((files.case_id, str(error)))
        if progress:
            progress(done, len(dataset.cases), files.case_id)
    if not items:
        reason = f"; the first: {skipped[0][0]}: {skipped[0][1]}" if skipped else ""
        msg = f"{dataset.root} holds no case that can be trained on{reason}"
        raise DatasetError(msg)
    known.merged(items, sampling).write(plan.folder)
    return PackReport(tuple(items), tuple(skipped))


def pack_case(
    files: CaseFiles, plan: PackPlan, recipes: dict[Network, Recipe]
) -> Iterator[PackItem]:
    """Pack one case for every network that can use it.

    Raises:
        PayersegError: the case cannot be read, or image and mask do not share a grid.
    """
    opened = open_case(files, plan.rules)
    if opened is None:
        return
    wanted = plan.val_inputs == "all" or (plan.val_inputs == "val" and files.split == "val")
    for network, recipe in recipes.items():
        if network == STAGE3:
            yield from _pack_vertebrae(opened, plan, recipe, with_val=wanted)
        elif opened.case.landmarks:
            yield _pack_scan(opened, plan, recipe, with_val=wanted)


def open_case(files: CaseFiles, rules: ReadingRules = DEFAULT_RULES) -> OpenCase | None:
    """Read a case as training sees it; None where it has neither positions nor masks.

    Raises:
        PayersegError: unreadable, no CT, or image and mask do not share a grid.
    """
    case = read_case(files, rules)
    if case.landmarks is None and case.labels is None:
        return None
    labels = read_volume(case.labels) if case.labels else None
    image = read_volume(case.image) if labels is not None else None
    if labels is not None and image is not None and not image.grid.same_space_as(labels.grid):
        msg = f"{case.labels} and {case.image} do not share a grid; see: payerseg train check"
        raise GridMismatch(msg)
    # thinner scans than a run accepts: crops around a few vertebrae are welcome
    ct = prepare_scan(case.image, PreparationConfig(min_size_mm=0.0)).ct
    if case.landmarks is None and labels is not None:
        case = with_centers(case, labels)
    return OpenCase(case, ct, labels)


def aligned_grid(grid: Grid, spacing_mm: float) -> Grid:
    """Return an axis-aligned LPS grid of isotropic spacing that covers another grid."""
    corners = grid.corners_mm()
    low, high = corners.min(axis=0), corners.max(axis=0)
    size = np.maximum(1, np.ceil((high - low) / spacing_mm - 1e-6).astype(int))
    return centred_grid((low + high) / 2, size, spacing_mm)


def as_int16(volume: Volume) -> np.ndarray:
    """Return HU rounded and clipped to int16."""
    return np.clip(np.rint(volume.array), *HU_RANGE).astype(np.int16)


def marks_array(landmarks: Landmarks) -> np.ndarray:
    """Return (n, 4) rows of channel, x, y, z mm."""
    rows = [(v.channel, *mark.position_mm) for v, mark in landmarks.items()]
    return np.array(rows, float).reshape(-1, 4)


def partial_array(case: TrainingCase) -> np.ndarray:
    """Return the channels of visible but unmarked vertebrae."""
    return np.array(sorted(v.channel for v in case.partial), np.int64)


def level_arrays(case: TrainingCase) -> dict[str, np.ndarray]:
    """Return what is told of ribs and sacrum as arrays of `PackedScan`; nothing where nothing is."""
    facts, arrays = case.facts, {}
    if facts.ribs:
        rows = [facts.ribs.get(v, (None, None)) for v in case.landmarks or ()]
        told = [[np.nan if rib is None else float(rib) for rib in row] for row in rows]
        arrays["ribs"] = np.array(told, float).reshape(-1, 2)
    if facts.sacrum_mm is not None:
        arrays["sacrum_mm"] = np.array(facts.sacrum_mm, float)
    return arrays


def _pack_scan(opened: OpenCase, plan: PackPlan, recipe: Recipe, *, with_val: bool) -> PackItem:
    case, ct = opened.case, opened.ct
    landmarks = case.landmarks or Landmarks()
    network = recipe.card.stage
    smooth = _smoothed(ct, recipe.card.sampling)
    packed = sample_smoothly(
        smooth, aligned_grid(ct.grid, recipe.pack_spacing_mm), outside=float(HU_RANGE[0])
    )
    corners = ct.grid.corners_mm()
    common = {"marks": marks_array(landmarks), "partial": partial_array(case)}
    common |= level_arrays(case)
    arrays = {
        "hu": as_int16(packed),
        "origin_mm": np.array(packed.grid.origin_mm),
        "spacing_mm": np.array(recipe.pack_spacing_mm),
        "bounds_mm": np.array([corners.min(axis=0), corners.max(axis=0)]),
        **common,
    }
    # views for the level network's validation are made from the packed scan, as at inference
    own_val = with_val and network != LEVELS
    has_val = with_val or network == LEVELS
    item = _item(case, network, case.case_id, plan.group, len(landmarks), has_val=has_val)
    write_arrays(item_path(plan.folder, item), arrays)
    if own_val:
        x = scan_network_input(ct, landmarks, recipe)
        write_arrays(val_path(plan.folder, item), {**_val_arrays(x), **common})
    return item


def scan_network_input(ct: Volume, landmarks: Landmarks, recipe: Recipe) -> Volume:
    """Return what stage 1 or 2 feeds its network for a scan.

    Stage 2 needs a box; the tightest around the marks stands in for stage 1's answer.
    """
    if recipe.card.stage == STAGE1:
        return spine_input(ct, recipe.card.sampling)
    return vertebrae_input(ct, SpineBox.around(landmarks.positions_mm), recipe.card.sampling)


def _pack_vertebrae(
    opened: OpenCase, plan: PackPlan, recipe: Recipe, *, with_val: bool
) -> Iterator[PackItem]:
    case, labels = opened.case, opened.labels
    if labels is None or not case.landmarks:
        return
    present = set(np.unique(labels.array).tolist())
    for vertebra, mark in case.landmarks.items():
        if vertebra.verse_label not in present:
            continue
        name = f"{case.case_id}_{vertebra.name}"
        item = _item(case, STAGE3, name, plan.group, 1, has_val=with_val)
        write_arrays(item_path(plan.folder, item), _block_arrays(opened, labels, mark, recipe))
        if with_val:
            x = vertebra_network_input(opened.ct, mark, recipe)
            mask = resample_mask(labels, vertebra.verse_label, x.grid)
            arrays = {
                **_val_arrays(x),
                "marks": marks_array(Landmarks([mark])),
                "partial": partial_array(case),
                "mask": mask,
                "label": np.array(vertebra.verse_label),
            }
            if recipe.target == "labels":
                arrays["all_marks"] = marks_array(case.landmarks)
                arrays["n_maps"] = np.array(len(recipe.card.channels) - 1)
            write_arrays(val_path(plan.folder, item), arrays)
        yield item


def vertebra_network_input(ct: Volume, mark: Landmark, recipe: Recipe) -> Volume:
    """Return what stage 3 feeds its network for one vertebra.

    For a network of all classes only the image, its first channel: `read_val_input` adds the maps.
    """
    sampling = recipe.card.sampling
    if recipe.target == "labels":
        return network_input(ct, vertebra_frame(mark.position_mm, sampling), sampling)
    return vertebra_input(ct, mark.position_mm, sampling)


def _block_arrays(
    opened: OpenCase, labels: Volume, mark: Landmark, recipe: Recipe
) -> dict[str, np.ndarray]:
    """Cut one vertebra out generously, at the recipe's pack spacing."""
    spacing = recipe.pack_spacing_mm
    center = np.add(mark.position_mm, BLOCK_OFFSET_MM)
    grid = centred_grid(center, BLOCK_SHAPE_ZYX[::-1], spacing)
    hu = sample_smoothly(
        _smoothed(opened.ct, recipe.card.sampling), grid, outside=float(HU_RANGE[0])
    )
    marks = marks_array(opened.case.landmarks or Landmarks())
    marks[:, 1:] -= center
    return {
        "hu": as_int16(hu),
        "labels": resample_labels(labels, grid, mark.vertebra),
        "label": np.array(mark.vertebra.verse_label),
        "centre_mm": np.subtract(mark.position_mm, center),
        "spacing_mm": np.array(spacing),
        "marks": marks,
    }


def resample_labels(labels: Volume, onto: Grid, wanted: Vertebra) -> np.ndarray:
    """Return labels (z, y, x) uint8 on another grid.

    The wanted vertebra is resampled linearly and cut at one half, as nearest neighbours would leave
    stairs; the others are nearest.
    """
    near = resample(labels, onto, interpolation="nearest").array.astype(np.uint8)
    value = wanted.verse_label
    near[near == value] = 0
    near[resample_mask(labels, value, onto) > 0] = value
    return near


def resample_mask(labels: Volume, value: int, onto: Grid) -> np.ndarray:
    """Return one label's mask (z, y, x) uint8 on another grid, linear, cut at one half."""
    mask = labels.with_array((labels.array == value).astype(np.float32))
    return (resample(mask, onto).array > 0.5).astype(np.uint8)


def _smoothed(ct: Volume, sampling: SamplingSpec) -> Volume:
    return smooth_in_steps(ct, sampling.smoothing_mm) if sampling.smoothing_mm else ct


def _val_arrays(x: Volume) -> dict[str, np.ndarray]:
    array = x.array if x.array.ndim == 4 else x.array[..., None]
    return {
        "x": array,
        "origin_mm": np.array(x.grid.origin_mm),
        "spacing_mm": np.array(x.grid.spacing_mm[0]),
    }


def _item(
    case: TrainingCase, network: str, name: str, group: str, marks: int, *, has_val: bool
) -> PackItem:
    return PackItem(
        name=name,
        network=network,
        case_id=case.case_id,
        patient_id=case.patient_id,
        split=case.split,
        group=group,
        source=case.source,
        licence=case.licence,
        marks=marks,
        has_val_input=has_val,
    )
