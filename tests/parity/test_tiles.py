"""P9: the reference's tile offsets, crops and stitching."""

from pathlib import Path

import numpy as np
import pytest

from payerseg.inference.tiles import merge_tiles_by_maximum, reference_tiles

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "data" / "tiler.npz")
CASES = sorted({key.split("/")[0] for key in GOLDEN.files})
WITH_IMAGES = [case for case in CASES if f"{case}/image" in GOLDEN.files]
PADDING = -1.0


def case_tiles(case):
    full, tile, step = (tuple(GOLDEN[f"{case}/{k}"].tolist()) for k in ("full", "tile", "step"))
    return full, tile, reference_tiles(full, tile, step)


@pytest.mark.parametrize("case", CASES)
def test_offsets_in_visiting_order(case):
    assert [list(start) for start in case_tiles(case)[2]] == GOLDEN[f"{case}/offsets"].tolist()


@pytest.mark.parametrize("case", WITH_IMAGES)
def test_stitching_of_the_reference(case):
    """Channels are last here: the recorded arrays (c, z, y, x) are moved."""
    full, _, starts = case_tiles(case)
    outputs = [
        (start[1:], np.moveaxis(GOLDEN[f"{case}/pred{i}"], 0, -1)) for i, start in enumerate(starts)
    ]
    found = merge_tiles_by_maximum(outputs, full[1:], full[0])
    np.testing.assert_array_equal(np.moveaxis(found, -1, 0), GOLDEN[f"{case}/stitched"])


@pytest.mark.parametrize("case", WITH_IMAGES)
def test_crops_of_the_reference(case):
    """A start below 0 means that the tile hangs over on both sides, filled with -1."""
    full, tile, starts = case_tiles(case)
    image = GOLDEN[f"{case}/image"]
    before = [max(0, t - n) for n, t in zip(full, tile, strict=True)]
    padded = np.pad(image, [(p, p) for p in before], constant_values=PADDING)
    for i, start in enumerate(starts):
        block = tuple(slice(a + p, a + p + t) for a, p, t in zip(start, before, tile, strict=True))
        np.testing.assert_array_equal(padded[block], GOLDEN[f"{case}/crop{i}"])
