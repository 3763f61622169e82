"""Scans as users have them, good and bad, and the main script run as they run it."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from payerseg.imaging.files import write_volume

REPOSITORY = Path(__file__).resolve().parents[2]
QUICK = {
    "PAYERSEG_TEST": "1",
    "OMP_NUM_THREADS": "1",
    "TF_NUM_INTRAOP_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "1",
    "CUDA_VISIBLE_DEVICES": "-1",
}


@pytest.fixture(scope="session")
def run_program(tmp_path_factory):
    """Run a program from a folder that is not the clone; return the completed process."""
    elsewhere = tmp_path_factory.mktemp("elsewhere")

    def run(*arguments, cwd=elsewhere):
        environment = {**os.environ, **QUICK}
        if arguments[0] == "-m":  # as if installed
            environment["PYTHONPATH"] = str(REPOSITORY)
        command = [sys.executable, *map(str, arguments)]
        return subprocess.run(
            command, cwd=cwd, env=environment, capture_output=True, text=True, check=False
        )

    return run


@pytest.fixture(scope="session")
def weights_flags(handmade_weights):
    names = ("spine_localization", "vertebrae_localization", "vertebrae_segmentation")
    return [
        x for step, n in enumerate(names, 1) for x in (f"--model_step{step}", handmade_weights[n])
    ]


@pytest.fixture(scope="session")
def good_scans(tmp_path_factory, synthetic_spine, synthetic_grids) -> Path:
    """Three scans: compressed NIfTI of an oblique grid, MetaImage, NRRD far from the origin."""
    folder = tmp_path_factory.mktemp("good")
    for name, grid, levels in [
        ("lumbar.nii.gz", "oblique", ("T11", "L3")),
        ("thoracic.mha", "anisotropic", ("T9", "L1")),
        ("third.nrrd", "far_origin", ("T10", "L2")),
    ]:
        write_volume(
            synthetic_spine(synthetic_grids[grid](), *levels, coded=True).ct, folder / name
        )
    return folder


@pytest.fixture(scope="session")
def bad_scans(tmp_path_factory, synthetic_spine) -> Path:
    """One of each refusal; `BAD_KINDS` of test_main.py says how each must end."""
    folder = tmp_path_factory.mktemp("bad")
    ct = synthetic_spine().ct
    hu = np.ascontiguousarray(ct.array.T)
    affine = np.diag([-2.0, -2.0, 2.0, 1.0])
    rgb = np.zeros(hu.shape, [("R", "u1"), ("G", "u1"), ("B", "u1")])
    flat_affine = np.diag([-2.0, -2.0, 0.0, 1.0])
    for name, array, matrix in [
        ("bad_2d", hu[:, :, 40], affine),
        ("bad_4d", np.stack([hu, hu], axis=-1), affine),
        ("bad_rgb", rgb, affine),
        ("bad_mri", np.abs(hu).astype(np.int16) * 7 % 4000 + 20000, affine),
        ("bad_twice", hu, affine),
    ]:
        nib.save(nib.Nifti1Image(array, matrix), folder / f"{name}.nii.gz")
    write_volume(ct, folder / "bad_twice.nrrd")
    header = nib.Nifti1Image(hu, affine).header
    header.set_sform(flat_affine, 1)
    header["pixdim"][3] = 0
    content = bytes(header.binaryblock) + b"\0" * 4 + hu.tobytes(order="F")
    (folder / "bad_geometry.nii.gz").write_bytes(gzip.compress(content))
    whole = (folder / "bad_twice.nii.gz").read_bytes()
    (folder / "bad_truncated.nii.gz").write_bytes(whole[: len(whole) // 2])
    (folder / "bad_empty.nii.gz").touch()
    (folder / "bad_text.mha").write_text("this is no image")
    (folder / "bad_directory.nii.gz").mkdir()
    return folder
