import numpy as np
import pytest
from scipy import ndimage

from payerseg.domain.vertebra import Vertebra
from payerseg.synthesis.library import pose_whole_spine
from payerseg.synthesis.phantom import phantom_library
from payerseg.synthesis.scans import (
    BODY_3MM,
    Extent,
    SyntheticScan,
    synthesize_from_spine,
    synthesize_spine,
)
from payerseg.synthesis.surroundings import Context
from payerseg.synthesis.tissues import Patient

SMALL = Extent(
    (2.5, 2.5, 2.5), side_mm=60, front_mm=45, back_mm=85, above_mm=40, below_mm=40,
    first=Vertebra.T11, last=Vertebra.L2,
)  # fmt: skip


@pytest.fixture(scope="module")
def scan() -> SyntheticScan:
    return synthesize_spine(phantom_library(), 3, "usual", SMALL)


def test_the_same_seed_gives_the_same_bytes(scan):
    again = synthesize_spine(phantom_library(), 3, "usual", SMALL)
    assert scan.ct.array.tobytes() == again.ct.array.tobytes()
    assert scan.labels.array.tobytes() == again.labels.array.tobytes()
    assert scan.ct.grid == again.ct.grid
    np.testing.assert_array_equal(scan.landmarks.positions_mm, again.landmarks.positions_mm)


def test_another_seed_gives_another_scan(scan):
    other = synthesize_spine(phantom_library(), 4, "usual", SMALL)
    assert scan.ct.array.tobytes() != other.ct.array.tobytes()


def test_types_and_grids(scan):
    assert scan.ct.array.dtype == np.int16
    assert scan.labels.array.dtype == np.uint8
    assert scan.ct.grid == scan.labels.grid
    assert scan.ct.array.min() >= -1024
    assert scan.ct.array.max() <= 3071


def test_landmarks_lie_in_their_own_vertebra(scan):
    names = {v.name for v in scan.landmarks}
    assert {"T11", "T12", "L1", "L2"} <= names
    for vertebra, mark in scan.landmarks.items():
        k, j, i = np.round(scan.labels.grid.map_world_to_indices([mark.position_mm])[0]).astype(int)
        assert scan.labels.array[k, j, i] == vertebra.verse_label


def test_vertebrae_on_a_face_are_named(scan):
    faces = np.concatenate([scan.labels.array[0].ravel(), scan.labels.array[-1].ravel()])
    cut = {Vertebra(int(v)).name for v in np.unique(faces) if v}
    assert cut <= set(scan.cut)


def test_bone_is_bright_and_canal_is_not(scan):
    bone = scan.ct.array[scan.labels.array > 0].mean()
    near = ndimage.binary_dilation(scan.labels.array > 0, iterations=3) & (scan.labels.array == 0)
    assert bone > 120
    assert bone > scan.ct.array[near].mean() + 80


def test_no_vertebra_is_torn(scan):
    for vertebra in ("T12", "L1"):
        parts = ndimage.label(
            scan.labels.array == Vertebra[vertebra].verse_label, np.ones((3, 3, 3))
        )
        assert parts[1] == 1


def test_a_body_view_is_drawn_at_random():
    vertebrae = [v for v in Vertebra if v.name not in ("T13", "L6")]
    rng = np.random.default_rng(0)
    views = [BODY_3MM.with_random_view(vertebrae, rng) for _ in range(60)]
    assert all(v.first.rank <= v.last.rank for v in views)
    assert len({(v.first, v.last) for v in views}) > 20
    assert any(v.first is Vertebra.C1 for v in views)
    assert any(v.last is Vertebra.L5 for v in views)


def test_one_persons_spine_can_be_drawn():
    extent = Extent(
        (3.0, 3.0, 3.0), side_mm=45, front_mm=36, back_mm=66, above_mm=-60, below_mm=-420
    )
    scan = synthesize_from_spine(phantom_library().spines[0], phantom_library(), 1, extent)
    assert len(scan.landmarks) > 2
    assert set(scan.notes.values()) == {f"phantom:{name}" for name in scan.notes}


PELVIS = Extent(
    (3.0, 3.0, 3.0), side_mm=75, front_mm=50, back_mm=85, above_mm=20, below_mm=65,
    first=Vertebra.L4, last=Vertebra.L5,
)  # fmt: skip


def test_s1_is_told_where_the_sacrum_is_in_the_volume(scan):
    assert scan.sacrum_mm is None
    low = synthesize_spine(phantom_library(), 5, "usual", PELVIS)
    k, j, i = np.round(low.ct.grid.map_world_to_indices(low.sacrum_mm[None])[0]).astype(int)
    assert low.ct.array[k - 2 : k + 3, j - 2 : j + 3, i - 2 : i + 3].mean() > 110, "in bone"
    below = low.landmarks[Vertebra.L5].position_mm[2] - low.sacrum_mm[2]
    assert 18 < below < 45


def test_a_sacralised_l5_reaches_the_sacrum():
    usual, fused = (
        synthesize_spine(phantom_library(), 5, v, PELVIS) for v in ("usual", "sacralised")
    )
    size, gap = [], []
    for scan in (usual, fused):
        size.append(np.count_nonzero(scan.labels.array == Vertebra.L5.verse_label))
        gap.append(scan.landmarks[Vertebra.L5].position_mm[2] - scan.sacrum_mm[2])
        assert Vertebra.L6 not in scan.landmarks
    assert size[1] > 1.1 * size[0], "a wing is the vertebra's"
    assert gap[1] < gap[0] - 2, "a narrow disc"


def test_bodies_differ_in_where_their_organs_lie():
    posed = pose_whole_spine(phantom_library(), "usual", np.random.default_rng(0))
    patient = Patient.draw(np.random.default_rng(0))
    shifts = np.array([
        Context.draw((), patient, posed, np.random.default_rng(k)).organ_shift for k in range(400)
    ])  # fmt: skip
    assert shifts.std() == pytest.approx(0.7, abs=0.08)
    assert np.diff(shifts, axis=1).std() < 0.6, "smooth along the body"


@pytest.mark.parametrize(("variant", "name"), [("l6", "L6"), ("t13", "T13")])
def test_rare_levels_are_drawn_and_marked(variant, name):
    extent = Extent(
        (3.0, 3.0, 3.0), side_mm=60, front_mm=40, back_mm=80, above_mm=45, below_mm=40,
        first=Vertebra.T12, last=Vertebra[name],
    )  # fmt: skip
    scan = synthesize_spine(phantom_library(), 5, variant, extent)
    assert Vertebra[name] in scan.landmarks
    assert (Vertebra.T13 in scan.ribs) == (variant == "t13")
    assert np.count_nonzero(scan.labels.array == Vertebra[name].verse_label) > 400
