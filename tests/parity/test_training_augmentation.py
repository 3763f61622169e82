"""P22, P23: the reference's augmentation replayed from its recorded draws."""

from pathlib import Path

import numpy as np
import pytest
from reference_warp import ReferenceWarp, draws_from_recording

from payerseg.training.augment_reference import ReferenceIntensity, crop_center_mm

GOLDEN = Path(__file__).parents[1] / "golden" / "data"
# What the recording fed in: stage 2 a box, stage 3 a landmark (80, 90, 200) + (0, 20, 0) mm.
STAGE2_BOX_START, STAGE2_BOX_EXTENT = (10.0, -5.0, 30.0), (150.0, 140.0, 260.0)
STAGE3_CENTER = np.array((80.0, 110.0, 200.0))


@pytest.mark.parametrize("case", range(8))
def test_geometry(case: int) -> None:
    with np.load(GOLDEN / "augmentation_transform.npz") as golden:
        item = {k.split("/")[1]: golden[k] for k in golden if k.startswith(f"{case}/")}
    stage2 = int(item["stage"]) == 2
    crop, draws = np.split(item["draws"], [3 if stage2 else 0])
    draws = draws_from_recording(draws)
    np.testing.assert_array_equal(draws.elastic_mm.ravel(), item["bspline_params"])
    field = item["size"] * item["spacing"]
    center = STAGE3_CENTER
    if stage2:
        center = crop_center_mm(STAGE2_BOX_START, STAGE2_BOX_EXTENT, field, crop)
    warp = ReferenceWarp(draws, item["size"], item["spacing"], center)
    points = item["points_out_mm"]
    assert np.abs(warp(points) - item["points_in_mm"]).max() < 1e-3
    rigid = warp(points, elastic=False)
    assert np.abs(rigid - item["points_in_mm_no_bspline"]).max() < 1e-3
    assert np.abs(warp(points) - rigid).max() > 1  # the elastic part is really there


@pytest.mark.parametrize("case", range(5))
def test_intensity(case: int) -> None:
    with np.load(GOLDEN / "intensity.npz") as golden:
        hu = golden[f"{case}/x"]
        augmented = ReferenceIntensity(*golden[f"{case}/draws_gamma_shift_scale"])(hu)
        assert np.abs(augmented - golden[f"{case}/y"]).max() < 1e-5
        assert np.abs(ReferenceIntensity()(hu) - golden[f"{case}/y_val"]).max() < 1e-5
