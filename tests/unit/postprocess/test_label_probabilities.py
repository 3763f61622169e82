"""All classes at once: masks are where a class is the most probable, and only named vertebrae count."""

from itertools import pairwise

import numpy as np
import pytest

from payerseg.domain.grid import Grid
from payerseg.domain.landmarks import Landmark, Landmarks
from payerseg.domain.vertebra import Vertebra
from payerseg.domain.volume import Volume
from payerseg.errors import BundleError
from payerseg.postprocess.label_probabilities import label_probabilities
from payerseg.postprocess.vertebra_masks import MaskRule, merge_masks

GRID = Grid((24, 20, 18), (1.0, 1.0, 1.0), (3.0, -7.0, 100.0))
CHANNELS = (0, 8, 9, 10)  # background, T1, T2, T3


def marks(*names):
    return Landmarks([Landmark(Vertebra[name], (10.0, 2.0, 110.0)) for name in names])


def blobs(seed=0):
    """Smooth random softmax of four classes: plenty of borders between all of them."""
    from scipy.ndimage import gaussian_filter

    raw = np.random.default_rng(seed).normal(size=(*GRID.shape, 4))
    raw = 60 * gaussian_filter(raw, (3, 3, 3, 0))
    raw = np.exp(raw - raw.max(axis=-1, keepdims=True))
    return (raw / raw.sum(axis=-1, keepdims=True)).astype("float32")


def in_slabs(array, cuts=(0, 7, 8, 24)):
    for a, b in pairwise(cuts):
        yield Volume(array[a:b], GRID.window((a, 0, 0), array[a:b].shape[:3]))


def dense(items):
    """Probability of each vertebra on the whole grid."""
    out = {}
    for item in items:
        full = np.zeros(GRID.shape, np.float32)
        start = np.rint(GRID.map_world_to_indices([item.probability.grid.origin_mm])[0]).astype(int)
        block = tuple(
            slice(a, a + n) for a, n in zip(start, item.probability.array.shape, strict=True)
        )
        full[block] = item.probability.array
        out[item.vertebra] = full
    return out


def test_above_one_half_is_where_the_class_is_most_probable():
    soft = blobs()
    found = dense(label_probabilities(in_slabs(soft), GRID, marks("T1", "T2", "T3"), CHANNELS))
    winner = soft.argmax(axis=-1)
    for number, vertebra in enumerate(found, start=1):
        np.testing.assert_array_equal(found[vertebra] > 0.5, winner == number)


def test_labels_after_the_merge_are_the_argmax():
    soft = blobs(3)
    landmarks = marks("T1", "T2", "T3")
    items = label_probabilities(in_slabs(soft), GRID, landmarks, CHANNELS)
    merged = merge_masks(items, GRID, MaskRule(interpolation="linear"))
    expected = np.array(CHANNELS)[soft.argmax(axis=-1)]
    same = merged.labels.array == expected
    # what differs lay apart from its largest component and was dropped
    assert np.all(merged.labels.array[~same] == 0)
    assert same.mean() > 0.6
    assert all(report.mean_probability > 0.5 for report in merged.reports)


def test_a_class_without_a_landmark_is_no_candidate():
    soft = blobs(1)
    found = dense(label_probabilities(in_slabs(soft), GRID, marks("T1", "T3"), CHANNELS))
    winner = np.delete(soft, 2, axis=-1).argmax(axis=-1)
    assert list(found) == [Vertebra.T1, Vertebra.T3]
    np.testing.assert_array_equal(found[Vertebra.T3] > 0.5, winner == 2)


def test_the_rim_is_soft_so_that_borders_lie_between_voxels():
    soft = np.zeros((*GRID.shape, 4), np.float32)
    soft[..., 0], soft[..., 1] = 0.6, 0.4
    soft[8:12, 8:12, 8:12] = (0.2, 0.8, 0, 0)
    (found,) = dense(label_probabilities(in_slabs(soft), GRID, marks("T1"), CHANNELS)).values()
    assert found[9, 9, 9] == pytest.approx(0.8)
    assert found[9, 9, 12] == pytest.approx(0.4)


def test_t13_and_a_vertebra_without_voxels_are_reported_as_empty():
    soft = np.zeros((*GRID.shape, 4), np.float32)
    soft[..., 0] = 1
    items = label_probabilities(in_slabs(soft), GRID, marks("T1", "T13"), CHANNELS)
    merged = merge_masks(items, GRID)
    assert [r.vertebra for r in merged.reports] == [Vertebra.T1, Vertebra.T13]
    assert all(report.problems == ("the mask is empty",) for report in merged.reports)


def test_a_card_without_a_background_is_refused():
    with pytest.raises(BundleError, match="background"):
        list(label_probabilities([], GRID, marks("T1"), (8, 9, 10)))
