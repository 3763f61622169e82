"""P24: the reference's metrics, and the surface distances of independent libraries."""

import json
from pathlib import Path

import numpy as np
import pytest

from payerseg.domain.landmarks import Landmark, Landmarks
from payerseg.domain.vertebra import Vertebra
from payerseg.evaluation.landmark_scores import score_landmarks
from payerseg.evaluation.mask_scores import _elements, dice, hausdorff_mm, score_surfaces

DATA = Path(__file__).parents[1] / "golden" / "data"
SURFACES = json.loads((DATA / "surface_scores.json").read_text())


def landmarks(rows):
    return Landmarks(
        Landmark(Vertebra.from_channel(k), tuple(row))
        for k, row in enumerate(rows)
        if np.all(np.isfinite(row))
    )


@pytest.fixture(scope="module")
def metrics():
    return np.load(DATA / "metrics.npz")


@pytest.fixture(scope="module")
def scans(metrics):
    ids = sorted({k.split("/")[0] for k in metrics.files if k.endswith("/gt")})
    return [(landmarks(metrics[f"{i}/pred"]), landmarks(metrics[f"{i}/gt"])) for i in ids]


def point_errors_mm(predicted, truth):
    """mm between all pairs of one name, identified or not."""
    outcomes = score_landmarks(predicted, truth).outcomes
    return [one.distance_mm for one in outcomes if one.distance_mm is not None]


def identified_among_all(predicted, truth):
    """The reference's rule, stricter than VerSe's: no true centre of any name is nearer."""
    gap = np.linalg.norm(predicted.positions_mm[:, None] - truth.positions_mm, axis=2)
    nearest = [list(truth)[k] for k in gap.argmin(axis=1)]
    return sum(
        own is found and d <= 20
        for own, found, d in zip(predicted, nearest, gap.min(axis=1), strict=True)
    )


def test_point_errors(metrics, scans):
    errors = np.concatenate([point_errors_mm(*scan) for scan in scans])
    expected = metrics["pe_mean_std_median"]
    assert (errors.mean(), errors.std(), np.median(errors)) == pytest.approx(expected, abs=1e-6)


def test_identified_and_counted(metrics, scans):
    assert sum(identified_among_all(*scan) for scan in scans) == metrics["num_correct_20mm"]
    both = sum(len(point_errors_mm(*scan)) for scan in scans)
    counts = both, sum(len(t) for _, t in scans), sum(len(p) for p, _ in scans)
    assert counts == tuple(metrics["num_valid_(both,gt,pred)"])


def test_misses_and_extras(metrics, scans):
    scores = [score_landmarks(*scan) for scan in scans]
    missed = sum(s.count("missed") for s in scores)
    extra = sum(s.count("extra") for s in scores)
    assert (missed, extra) == tuple(metrics["missed_toomany"])


def test_dice(metrics):
    predicted, truth = metrics["dice_pred"], metrics["dice_gt"]
    for label, expected in enumerate(metrics["dice_labels1to5"], 1):
        if np.isnan(expected):
            assert not np.any(truth == label)
        else:
            assert dice(predicted == label, truth == label) == pytest.approx(expected, abs=1e-6)


def mask_pair(name):
    masks = np.load(DATA / "surface_masks.npz")
    shape = tuple(masks["shape"])
    return [
        np.unpackbits(masks[f"{name}/{k}"], count=int(np.prod(shape))).reshape(shape).astype(bool)
        for k in "ab"
    ]


@pytest.mark.parametrize("case", SURFACES)
def test_surface_scores_agree_with_surface_distance(case):
    a, b = mask_pair(case.split("/")[0])
    expected = SURFACES[case]["surface_distance"]
    found = score_surfaces(a, b, tuple(SURFACES[case]["spacing_zyx"]))
    assert found.hd95_mm == pytest.approx(expected["hd95"], abs=1e-6)
    assert found.assd_mm == pytest.approx(expected["assd"], abs=1e-6)
    for mm, share in found.surface_dice.items():
        assert share == pytest.approx(expected["surface_dice"][str(int(mm))], abs=1e-9)
    area = _elements(np.pad(b, 1), tuple(SURFACES[case]["spacing_zyx"]))[1].sum()
    assert area == pytest.approx(expected["area_true"], rel=1e-9)


@pytest.mark.parametrize("case", SURFACES)
def test_hausdorff_and_dice_are_those_of_simpleitk(case):
    a, b = mask_pair(case.split("/")[0])
    expected = SURFACES[case]["simpleitk"]
    spacing = tuple(SURFACES[case]["spacing_zyx"])
    assert hausdorff_mm(a, b, spacing) == pytest.approx(expected["hausdorff"], abs=1e-5)
    assert dice(a, b) == pytest.approx(expected["dice"], abs=1e-9)


@pytest.mark.parametrize("case", [c for c in SURFACES if c.startswith(("same", "shift", "grow"))])
def test_close_to_panoptica(case):
    """Its surfaces are border voxels, counted once each, so it is close only for smooth pairs."""
    a, b = mask_pair(case.split("/")[0])
    expected = SURFACES[case]["panoptica"]
    spacing = tuple(SURFACES[case]["spacing_zyx"])
    found = score_surfaces(a, b, spacing)
    voxel = float(np.linalg.norm(spacing))
    assert dice(a, b) == pytest.approx(expected["dice"], abs=1e-9)
    assert found.assd_mm == pytest.approx(expected["assd"], abs=voxel / 2)
    assert found.hd95_mm == pytest.approx(expected["hd95"], abs=1.5 * voxel)
    assert found.hausdorff_mm == pytest.approx(expected["hd"], abs=voxel)
