"""P12, P13: the reference's targets from its recorded inputs."""

from pathlib import Path

import numpy as np
import pytest

from payerseg.domain.grid import Grid
from payerseg.preprocess.channels import REFERENCE_REACH_SIGMAS, point_heatmap
from payerseg.training.targets import reference_spine_heatmap

GOLDEN = Path(__file__).parents[1] / "golden" / "data"


def cases(name: str) -> list[str]:
    with np.load(GOLDEN / f"{name}.npz") as golden:
        return sorted({key.split("/")[0] for key in golden})


@pytest.mark.parametrize("case", cases("heatmap_np_generator"))
def test_point_heatmap_is_the_references(case: str) -> None:
    with np.load(GOLDEN / "heatmap_np_generator.npz") as golden:
        point = tuple(golden[f"{case}/coords_xyz"].tolist())
        sigma = float(golden[f"{case}/sigma"])
        expected = golden[f"{case}/heatmap"]
        voxels = Grid(tuple(golden[f"{case}/size_zyx"].tolist()), (1.0, 1.0, 1.0))
        ours = point_heatmap(voxels, point, sigma, reach_sigmas=REFERENCE_REACH_SIGMAS)
        assert np.abs(ours - expected).max() < 1e-6


@pytest.mark.parametrize("case", cases("spine_heatmap_target"))
def test_spine_target_is_the_references(case: str) -> None:
    with np.load(GOLDEN / "spine_heatmap_target.npz") as golden:
        points = golden[f"{case}/points_xyz"][:, ::-1]
        ours = reference_spine_heatmap(points, golden[f"{case}/size_zyx"])
        assert np.abs(ours - golden[f"{case}/target"][0]).max() < 1e-5
