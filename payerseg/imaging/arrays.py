"""NIfTI files as plain arrays, for callers who want numpy and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from payerseg.domain.grid import Grid
from payerseg.domain.volume import Volume
from payerseg.errors import InputError
from payerseg.imaging.files import NIFTI_ENDINGS, read_volume, write_volume
from payerseg.imaging.orient import to_canonical


class LoadedScan(NamedTuple):
    """A scan in canonical order: x to the patient's left, y to the back, z to the head.

    Attributes:
        image: (z, y, x).
        spacing: (x, y, z) mm.
        affine: (4, 4), index (x, y, z) → LPS mm. LPS as everywhere in this library; a NIfTI header's
            own affine is RAS+, with the signs of the first two rows exchanged.
    """

    image: np.ndarray
    spacing: tuple[float, float, float]
    affine: np.ndarray


def load_nifti(path: Path | str) -> LoadedScan:
    """Read a .nii or .nii.gz file.

    Axes are put in canonical order by permutation and flips, nothing is resampled: so image and spacing
    alone cannot be mistaken for mirrored ones, however the file is stored.

    Raises:
        InputError: another ending, or the file cannot be used.
    """
    path = Path(path)
    _check_ending(path)
    volume, _ = to_canonical(read_volume(path))
    grid = volume.grid
    return LoadedScan(np.ascontiguousarray(volume.array), grid.spacing_mm, grid.matrix)


def save_nifti(image: np.ndarray, affine: np.ndarray, path: Path | str) -> None:
    """Write an array that lies where a loaded scan does, for instance its segmentation.

    Args:
        image: (z, y, x).
        affine: of `load_nifti`: index (x, y, z) → LPS mm.
        path: ends in .nii or .nii.gz.

    Raises:
        InputError: another ending.
    """
    path = Path(path)
    _check_ending(path)
    write_volume(Volume(image, Grid.from_matrix(image.shape, affine)), path)


def _check_ending(path: Path) -> None:
    if not path.name.lower().endswith(NIFTI_ENDINGS):
        msg = f"{path.name} is not named like a NIfTI file; expected {' or '.join(NIFTI_ENDINGS)}"
        raise InputError(msg)
