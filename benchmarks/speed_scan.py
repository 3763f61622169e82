"""The scan that speed is measured on when none is given: large, made from numbers, the same everywhere.

A trunk is drawn at 2 mm, brought to the wanted number of voxels and given a scanner's noise, so that it
compresses about as badly as a real CT.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from payerseg.domain.grid import Grid
from payerseg.domain.vertebra import Vertebra
from payerseg.domain.volume import Volume
from payerseg.imaging.nifti import write_nifti
from payerseg.imaging.resample import resample
from payerseg.synthesis.phantom import PHANTOM_EXTENT, make_phantom

SEED = 7
WIDTH_MM, HEIGHT_MM = 400.0, 600.0
NOISE_HU = 12.0
AIR_HU = -1024.0
SLAB_SLICES = 25
TRUNK = replace(PHANTOM_EXTENT, first=Vertebra.C4, side_mm=185.0, front_mm=170.0, back_mm=110.0)


def write_synthetic_scan(path: Path, size_xyz: tuple[int, int, int]) -> int:
    """Write a synthetic CT and return how many vertebrae it holds whole.

    Args:
        path: .nii.gz.
        size_xyz: voxels; they fill 400 x 400 x 600 mm whatever their number.
    """
    trunk = make_phantom(SEED, extent=TRUNK)
    size = np.asarray(size_xyz)
    spacing = np.array([WIDTH_MM, WIDTH_MM, HEIGHT_MM]) / size
    centre = trunk.ct.grid.corners_mm().mean(axis=0)
    origin = centre - (size - 1) / 2 * spacing
    grid = Grid(tuple(size[::-1].tolist()), tuple(spacing.tolist()), tuple(origin.tolist()))
    rng = np.random.default_rng(SEED)
    voxels = np.empty(grid.shape, np.int16)
    for start in range(0, grid.shape[0], SLAB_SLICES):
        part = grid.window(
            (start, 0, 0), (min(SLAB_SLICES, grid.shape[0] - start), *grid.shape[1:])
        )
        hu = resample(trunk.ct, part, outside=AIR_HU).array
        hu += NOISE_HU * rng.standard_normal(hu.shape, np.float32)
        voxels[start : start + len(hu)] = np.rint(np.clip(hu, AIR_HU, 3071))
    ct = Volume(voxels, grid)
    write_nifti(path, ct.array, ct.grid)
    inside = ct.grid.contains(trunk.landmarks.positions_mm)
    return int(np.count_nonzero(inside)) - len(trunk.cut)
