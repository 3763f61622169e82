"""A tilted DICOM series and a zip through the one command, and back to DICOM."""

import importlib.util

import numpy as np
import pytest

from payerseg.domain.grid import Grid
from payerseg.imaging.files import read_volume
from payerseg.imaging.resample import resample


@pytest.fixture
def dicom(repository):
    pytest.importorskip("highdicom", reason="the extra `dicom` is not installed")
    path = repository / "tests/unit/dicom/dicom_writer.py"
    spec = importlib.util.spec_from_file_location("dicom_writer", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Writer


def test_dicom_in_and_out(
    dicom, repository, run_program, weights_flags, synthetic_spine, synthetic_grids, tmp_path
):
    grid: Grid = synthetic_grids["sheared"]()
    spine = synthetic_spine(grid, "T11", "L2", coded=True)
    dicom.save(dicom.slices(spine.ct, StudyInstanceUID="1.2.1"), tmp_path / "in" / "p1" / "ct")
    packed = dicom.save(dicom.slices(spine.ct, StudyInstanceUID="1.2.2"), tmp_path / "p2")
    dicom.zipped(packed).rename(tmp_path / "in" / "p2.zip")
    out = tmp_path / "out"
    folders = ("--input_folder", tmp_path / "in", "--output_folder", out)
    done = run_program(repository / "main_test_overlap_cropped.py", *folders, *weights_flags)
    assert done.returncode == 0, done.stderr
    found = {}
    for case in ("in", "p2"):
        labels = read_volume(out / case / "step3_vertebrae_segmentation" / f"{case}_seg.nii.gz")
        assert labels.grid.is_orthonormal  # so that every viewer opens it
        onto = resample(labels, onto=grid, interpolation="nearest", outside=0)
        common = np.count_nonzero((onto.array == spine.labels.array) & (onto.array > 0))
        assert common > 0.5 * np.count_nonzero(spine.labels.array)
        found[case] = labels.array
    assert np.array_equal(found["in"], found["p2"])
    target = ("--to", "dicom-seg", "-o", tmp_path / "seg")
    done = run_program("-m", "payerseg", "export", out, *target)
    assert done.returncode == 0, done.stderr
    written = sorted((tmp_path / "seg" / "dicom-seg").iterdir())
    assert [path.name for path in written] == ["in_seg.dcm", "p2_seg.dcm"]
