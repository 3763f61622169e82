"""The reference's augmentation point by point, to compare what the training applies with.

Needed apart from the product's `as_warp`, whose node lattice lies half a voxel off.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from payerseg.training.augment_reference import N_NODES, ReferenceDraws, reference_rotation

N_CELLS = 3


def draws_from_recording(numbers: np.ndarray) -> ReferenceDraws:
    """Read the reference's order: 3 shift, 3 rotation, 1 scale, 3 scales, 3 flips, 648 nodes."""
    assert len(numbers) == 661
    elastic = numbers[13:].reshape(3, N_NODES, N_NODES, N_NODES)
    return ReferenceDraws(
        numbers[0:3], numbers[3:6], float(numbers[6]), numbers[7:10], numbers[10:13], elastic
    )


@dataclass(frozen=True, slots=True)
class ReferenceWarp:
    """Where an output point takes its value from.

    q = p + E(p); v = (q - (size - 1) spacing / 2) * flip * axis scale * scale;
    input point = R3 R2 R1 v + shift + centre.

    Attributes:
        draws: the random numbers.
        size_xyz: of the output, voxels.
        spacing_mm: of the output (x, y, z).
        center_mm: input point of the output's centre, without shift (the crop included).
    """

    draws: ReferenceDraws
    size_xyz: np.ndarray
    spacing_mm: np.ndarray
    center_mm: np.ndarray

    def __call__(self, points_mm: np.ndarray, *, elastic: bool = True) -> np.ndarray:
        """Map output points (n, 3) mm to input points (n, 3) mm."""
        points = np.asarray(points_mm, float)
        if elastic:
            points = points + self.displacement_mm(points)
        draws = self.draws
        middle = (np.asarray(self.size_xyz) - 1) * np.asarray(self.spacing_mm) / 2
        sign = np.where(draws.flip > 0, -1.0, 1.0)
        v = (points - middle) * sign * (1 + draws.axis_scale) * (1 + draws.scale)
        return v @ reference_rotation(draws.rotation_rad).T + draws.shift_mm + self.center_mm

    def displacement_mm(self, points_mm: np.ndarray) -> np.ndarray:
        """Return the elastic displacement (n, 3) mm at output points (n, 3) mm.

        A uniform cubic B-spline with 3 cells per axis over [0, size * spacing].
        """
        extent = np.asarray(self.size_xyz) * np.asarray(self.spacing_mm)
        u = np.asarray(points_mm, float) / extent * N_CELLS
        cell = np.clip(np.floor(u).astype(int), 0, N_CELLS - 1)
        weights = _cubic_weights(u - cell)
        node = cell[:, :, None] + np.arange(4)
        coefficients = self.draws.elastic_mm[
            :, node[:, 2, :, None, None], node[:, 1, None, :, None], node[:, 0, None, None, :]
        ]
        return np.einsum(
            "anzyx,nz,ny,nx->na", coefficients, weights[:, 2], weights[:, 1], weights[:, 0]
        )


def _cubic_weights(t: np.ndarray) -> np.ndarray:
    """Return the four uniform cubic B-spline weights, (..., 4), for t in [0, 1)."""
    return (
        np.stack(
            [
                (1 - t) ** 3,
                3 * t**3 - 6 * t**2 + 4,
                -3 * t**3 + 3 * t**2 + 3 * t + 1,
                t**3,
            ],
            axis=-1,
        )
        / 6
    )
