from dataclasses import replace

import numpy as np
import pytest

from payerseg.domain.vertebra import Vertebra
from payerseg.errors import DatasetError
from payerseg.imaging.files import write_volume
from payerseg.synthesis.library import (
    ShapeLibrary,
    load_library,
    pose_whole_spine,
    read_library,
    save_library,
)
from payerseg.synthesis.phantom import make_phantom, phantom_library
from payerseg.synthesis.scanner import Scanner
from payerseg.synthesis.scans import Conditions, Extent, scan_of
from payerseg.synthesis.tissues import Patient
from payerseg.synthesis.torso import build_torso

LUMBAR = Extent(
    (2.0, 2.0, 2.0), side_mm=66, front_mm=60, back_mm=95, above_mm=60, below_mm=75,
    first=Vertebra.T12, last=Vertebra.L4,
)  # fmt: skip

PELVIS = Extent(
    (3.0, 3.0, 3.0), side_mm=75, front_mm=60, back_mm=85, above_mm=25, below_mm=110,
    first=Vertebra.L3, last=Vertebra.L5,
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A label-map folder with vertebrae and a crude torso: everything in the body is liver (5)."""
    scan = make_phantom(1, extent=LUMBAR)
    root = tmp_path_factory.mktemp("labels") / "someone"
    root.mkdir()
    write_volume(scan.labels, root / "vert.nii.gz")
    ids = np.where(scan.ct.array > -300, 5, 0).astype(np.uint8)
    ids[(scan.ct.array > 300) & (scan.labels.array == 0)] = 92
    ids[scan.labels.array > 0] = 30
    write_volume(scan.ct.with_array(ids), root / "all.nii.gz")
    return root


@pytest.fixture(scope="module")
def library(folder):
    return read_library([folder])


def test_whole_vertebrae_are_kept_and_cut_ones_dropped(library):
    names = {v.name for v in library.spines[0].shapes}
    assert {"L1", "L2", "L3"} <= names
    assert "T10" not in names
    assert len(library.torsos) == 1
    assert library.torsos[0].has_organs


def test_a_packed_library_comes_back_bit_for_bit(library, tmp_path):
    save_library(library, tmp_path / "shapes.npz")
    again = load_library(tmp_path / "shapes.npz")
    for vertebra, shape in library.spines[0].shapes.items():
        other = again.spines[0].shapes[vertebra]
        np.testing.assert_array_equal(shape.depth, other.depth)
        np.testing.assert_array_equal(shape.body.axes, other.body.axes)
        assert shape.grid == other.grid
    np.testing.assert_array_equal(library.torsos[0].bone, again.torsos[0].bone)
    np.testing.assert_array_equal(library.torsos[0].ribs, again.torsos[0].ribs)
    assert again.torsos[0].s1_mm is None, "no sacrum in this map"
    np.testing.assert_array_equal(library.torsos[0].axis.level, again.torsos[0].axis.level)


def test_s1_is_found_in_the_sacrum_and_carried_to_where_it_is_drawn():
    """The sacrum of one person, drawn around another spine, has its S1 where it is said to be."""
    scan = make_phantom(1, extent=PELVIS)
    index = np.argwhere(scan.labels.array == 0)
    x, y, z = (scan.ct.grid.map_indices_to_world(index) - scan.sacrum_mm).T
    first = (np.abs(z) < 14) & (np.abs(x) < 26) & (np.abs(y) < 16)
    rest = (np.abs(z + 35) < 21) & (np.abs(x) < 20) & (np.abs(y - 14 + z / 2 + 14) < 12)
    ids = np.zeros(scan.labels.array.shape, np.uint8)
    ids[tuple(index[first | rest].T)] = 25
    torso = build_torso("someone", scan.ct.with_array(ids), scan.labels)
    assert np.linalg.norm(torso.s1_mm - scan.sacrum_mm) < 12
    posed = pose_whole_spine(phantom_library(), "usual", np.random.default_rng(4))
    drawn = scan_of(
        posed,
        (torso,),
        PELVIS,
        Conditions.draw(24, np.random.default_rng(0)),
        np.random.default_rng(1),
    )
    k, j, i = np.round(drawn.ct.grid.map_world_to_indices(drawn.sacrum_mm[None])[0]).astype(int)
    assert drawn.ct.array[k - 1 : k + 2, j - 1 : j + 2, i - 1 : i + 2].mean() > 100


def test_shapes_drawn_again_have_the_volume_they_had(library):
    """Reading, smoothing and drawing loses at most a tenth of a vertebra."""
    shape = library.spines[0].shapes[Vertebra.L2]
    voxel = np.prod(shape.grid.spacing_mm)
    truth = make_phantom(1, extent=LUMBAR).labels
    wanted = np.count_nonzero(truth.array == 21) * np.prod(truth.grid.spacing_mm)
    assert np.count_nonzero(shape.depth > 0) * voxel == pytest.approx(wanted, rel=0.1)


def test_torso_tissue_lies_around_another_spine(library):
    others = phantom_library()
    with_torso = ShapeLibrary(others.spines, library.torsos)
    extent = Extent(
        (3.0, 3.0, 3.0), side_mm=60, front_mm=60, back_mm=80, above_mm=10, below_mm=10,
        first=Vertebra.L1, last=Vertebra.L3,
    )  # fmt: skip
    conditions = Conditions(
        replace(Patient.draw(np.random.default_rng(0)), contrast_hu=0.0), Scanner(noise_hu=0)
    )
    posed = pose_whole_spine(others, "usual", np.random.default_rng(2))
    scan = scan_of(posed, with_torso.torsos, extent, conditions, np.random.default_rng(2))
    center = scan.ct.grid.map_world_to_indices([scan.landmarks[Vertebra.L2].position_mm])[0]
    k, j, i = np.round(center).astype(int)
    assert np.median(scan.ct.array[k, j - 16 : j - 9, i - 4 : i + 4]) == pytest.approx(
        58, abs=25
    ), "liver"


def test_a_folder_without_labels_is_named(tmp_path):
    with pytest.raises(DatasetError, match=r"no vert\.nii\.gz"):
        read_library([tmp_path])


def test_a_foreign_file_is_refused(tmp_path):
    np.savez(tmp_path / "x.npz", a=np.zeros(3))
    with pytest.raises(DatasetError, match="no packed shape library"):
        load_library(tmp_path / "x.npz")
