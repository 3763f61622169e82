"""Record what independent libraries say about pairs of masks; needs an environment of its own.

    python -m venv oracle
    oracle/bin/pip install SimpleITK scipy surface-distance-based-measures panoptica
    oracle/bin/python tests/golden/make_surface_scores.py

Writes `data/surface_masks.npz` (the pairs) and `data/surface_scores.json` (the numbers).
Recorded with surface-distance-based-measures 0.1, panoptica 2.1.7, SimpleITK 2.5.7, scipy 1.18.1.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import surface_distance as sd
from panoptica.metrics import (
    _compute_dice_coefficient,
    _compute_instance_average_symmetric_surface_distance,
    _compute_instance_hausdorff_distance,
    _compute_instance_hausdorff_distance95,
)
from scipy import ndimage

DATA = Path(__file__).parent / "data"
SPACINGS_ZYX = {"cubic": (1.0, 1.0, 1.0), "thick": (2.5, 0.8, 0.8), "odd": (1.0, 0.5, 2.0)}


def pairs() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Masks of one shape: shifted, grown, ragged, in two parts, one voxel."""
    z, y, x = np.indices((30, 40, 40))
    ball = ((z - 15) ** 2 / 100 + (y - 20) ** 2 / 180 + (x - 20) ** 2 / 180) < 1
    noise = ndimage.gaussian_filter(np.random.default_rng(5).normal(size=ball.shape), 2)
    ragged = ball & (noise > -0.3 * noise.std())
    two = ball.copy()
    two[14:17] = False
    one = np.zeros_like(ball)
    one[15, 20, 20] = True
    return {
        "same": (ball, ball),
        "shifted": (ball, np.roll(ball, (1, 2, 0), (0, 1, 2))),
        "grown": (ball, ndimage.binary_dilation(ball, iterations=2)),
        "ragged": (ragged, ball),
        "two_parts": (two, ball),
        "one_voxel": (one, ball),
    }


def oracle(a: np.ndarray, b: np.ndarray, spacing: tuple[float, float, float]) -> dict:
    """Score prediction `a` against truth `b` by each library."""
    found = sd.compute_surface_distances(b, a, spacing)
    to_pred, to_true = sd.compute_average_surface_distance(found)
    weights = found["surfel_areas_gt"].sum(), found["surfel_areas_pred"].sum()
    images = [sitk.GetImageFromArray(m.astype(np.uint8)) for m in (a, b)]
    for image in images:
        image.SetSpacing([float(s) for s in spacing[::-1]])
    hausdorff, overlap = sitk.HausdorffDistanceImageFilter(), sitk.LabelOverlapMeasuresImageFilter()
    hausdorff.Execute(*images)
    overlap.Execute(*images)
    ours = b.astype(np.uint8), a.astype(np.uint8), 1, 1, spacing
    return {
        "surface_distance": {
            "hd95": sd.compute_robust_hausdorff(found, 95),
            "assd": float((to_pred * weights[0] + to_true * weights[1]) / sum(weights)),
            "surface_dice": {
                str(mm): float(sd.compute_surface_dice_at_tolerance(found, mm)) for mm in (1, 2, 3)
            },
            "area_true": float(weights[0]),
        },
        "simpleitk": {
            "dice": overlap.GetDiceCoefficient(),
            "hausdorff": hausdorff.GetHausdorffDistance(),
            "volume_similarity": overlap.GetVolumeSimilarity(),
        },
        "panoptica": {
            "dice": float(_compute_dice_coefficient(b, a)),
            "assd": float(_compute_instance_average_symmetric_surface_distance(*ours)),
            "hd": float(_compute_instance_hausdorff_distance(*ours)),
            "hd95": float(_compute_instance_hausdorff_distance95(*ours)),
        },
    }


def main() -> None:
    """Write both files."""
    masks, scores = {}, {}
    for name, (a, b) in pairs().items():
        masks[f"{name}/a"], masks[f"{name}/b"] = np.packbits(a), np.packbits(b)
        masks["shape"] = np.array(a.shape)
        for spacing_name, spacing in SPACINGS_ZYX.items():
            scores[f"{name}/{spacing_name}"] = {"spacing_zyx": spacing, **oracle(a, b, spacing)}
    np.savez_compressed(DATA / "surface_masks.npz", **masks)
    (DATA / "surface_scores.json").write_text(json.dumps(scores, indent=1) + "\n")


if __name__ == "__main__":
    main()
