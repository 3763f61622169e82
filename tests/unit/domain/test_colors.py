"""Neighbours must stay apart for every kind of sight."""

import numpy as np
import pytest

from payerseg.domain.colors import (
    COLORS,
    LABELS_HEAD_TO_FOOT,
    RIM_COLOR,
    RIMMED_LABELS,
    UNKNOWN_COLOR,
    color_of,
    hex_color_of,
    name_of,
)
from payerseg.domain.vertebra import Vertebra

SIGHT = {
    "normal": np.eye(3),
    "protan": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deutan": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritan": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}
RGB_TO_XYZ = np.array(
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
)


def cielab(rgb, sight):
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ np.asarray(sight).T, 0, 1)
    xyz = seen @ RGB_TO_XYZ.T / np.array([0.95047, 1.0, 1.08883])
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], 1)


@pytest.mark.parametrize("sight", SIGHT)
@pytest.mark.parametrize(("apart", "at_least"), [(1, 22), (2, 19), (3, 17)])
def test_neighbours_differ_for_every_sight(sight, apart, at_least):
    table = np.array([COLORS[label] for label in LABELS_HEAD_TO_FOOT]) / 255
    seen = cielab(table, SIGHT[sight])
    gap = np.linalg.norm(seen[apart:] - seen[:-apart], axis=1)
    assert gap.min() >= at_least


def test_t13_and_t12_missing_neighbours_differ_too():
    for a, b in [("T12", "L1"), ("L5", "L6"), ("T11", "L1")]:
        assert COLORS[Vertebra[a].verse_label] != COLORS[Vertebra[b].verse_label]


def test_dark_colours_get_a_rim_that_shows_on_any_grey():
    assert {Vertebra.T10.verse_label, Vertebra.L1.verse_label} <= set(RIMMED_LABELS)
    table = np.array([*COLORS.values(), RIM_COLOR]) / 255
    lightness = dict(zip([*COLORS, "rim"], cielab(table, SIGHT["normal"])[:, 0], strict=True))
    assert all(lightness[label] > 45 for label in COLORS if label not in RIMMED_LABELS)
    assert all(lightness["rim"] - lightness[label] > 45 for label in RIMMED_LABELS)


def test_every_label_has_one_colour_and_name():
    assert len(set(COLORS.values())) == len(COLORS) == 28
    assert [name_of(label) for label in (1, 28, 25, 26, 27)] == [
        "C1",
        "T13",
        "L6",
        "sacrum",
        "coccyx",
    ]
    assert name_of(99) == "label 99"
    assert color_of(99) == UNKNOWN_COLOR
    assert hex_color_of(1) == "#a93510"
