"""P19, P20 and B8: merging vertebra masks as V20 and as PSR do."""

import csv

import numpy as np
import pytest

from payerseg.config.load import load_config
from payerseg.config.model_card import ModelCard, SamplingSpec, UNetSpec
from payerseg.domain.grid import Grid
from payerseg.domain.vertebra import Vertebra
from payerseg.domain.volume import Volume
from payerseg.postprocess.mask_results import mask_rule
from payerseg.postprocess.vertebra_masks import (
    PAYERSEG_MASKS,
    VertebraProbability,
    merge_masks,
)

CHANNELS = (20, 21, 25)


@pytest.fixture(scope="module")
def golden(shared_dir):
    return shared_dir / "reference" / "golden"


@pytest.fixture(scope="module", params=["lps", "asl"])
def recorded(request, golden):
    """(scan grid, logits on their crops, V20's labels, PSR's labels)."""
    case = request.param
    payerseg = np.load(golden / "seg_merge_payerseg.npz")
    verse2020 = np.load(golden / "seg_merge_verse2020.npz")[f"{case}/verse2020_seg"]
    spacing = np.load(golden / "itk_preprocess.npz")[f"{case}/pre_spacing_xyz"]
    with (golden / "example_landmarks.csv").open() as stream:
        rows = {row[0]: np.array(row[1:], float).reshape(26, 3) for row in csv.reader(stream)}
    crops = []
    for channel in CHANNELS:
        point = rows[case][channel]
        origin = np.add(point, (0, 20, 0)) - (np.array([128, 128, 96]) - 1) / 2
        grid = Grid((96, 128, 128), (1.0, 1.0, 1.0), tuple(origin))
        logits = payerseg[f"logits/{channel}"].astype(np.float32)
        crops.append((Vertebra.from_channel(channel), Volume(logits, grid), tuple(point)))
    grid = Grid(verse2020.shape, tuple(spacing))
    return grid, crops, verse2020, payerseg[f"{case}/payerseg_seg"]


def probabilities(crops):
    for vertebra, logits, point in crops:
        sigmoid = 1 / (1 + np.exp(-logits.array))
        yield VertebraProbability(vertebra, logits.with_array(sigmoid), point)


def test_p19_default_merge_is_v20s(recorded):
    grid, crops, verse2020, _ = recorded
    labels = merge_masks(probabilities(crops), grid).labels.array
    assert np.mean(labels != verse2020) <= 5e-4
    assert set(np.unique(labels)) == {0, 21, 22, 28}


CARD = ModelCard("vertebrae_segmentation", UNetSpec((4,)), SamplingSpec(1.0))


@pytest.mark.parametrize(("preset", "gate"), [("reference", 5e-4), ("default", 1e-3)])
def test_p19_the_presets_merge_as_v20(recorded, preset, gate):
    """The default interpolates linearly, which is faster and moves 0.08 % of the voxels."""
    grid, crops, verse2020, _ = recorded
    rule = mask_rule(load_config(preset).vertebrae_segmentation, CARD)
    labels = merge_masks(probabilities(crops), grid, rule).labels.array
    assert np.mean(labels != verse2020) <= gate


def test_p19_the_order_of_the_vertebrae_does_not_matter(recorded):
    grid, crops, *_ = recorded
    forward = merge_masks(probabilities(crops), grid).labels.array
    assert np.array_equal(merge_masks(probabilities(crops[::-1]), grid).labels.array, forward)


def test_p20_payerseg_rule_on_logits(recorded):
    grid, crops, _, payerseg = recorded
    items = (VertebraProbability(vertebra, logits) for vertebra, logits, _ in crops)
    assert np.array_equal(merge_masks(items, grid, PAYERSEG_MASKS).labels.array, payerseg)


def test_b8_soft_logits_keep_v20s_volume(recorded):
    """The reference loses 24-29 % of the voxels; ours are V20's."""
    grid, crops, verse2020, payerseg = recorded
    ours = np.count_nonzero(merge_masks(probabilities(crops), grid).labels.array)
    full = np.count_nonzero(verse2020)
    assert np.count_nonzero(payerseg) < 0.77 * full
    assert ours == pytest.approx(full, rel=0.01)
