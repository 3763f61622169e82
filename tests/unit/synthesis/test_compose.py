import numpy as np
import pytest

from payerseg.domain.vertebra import Vertebra
from payerseg.errors import DatasetError
from payerseg.synthesis.library import (
    VARIANTS,
    ShapeLibrary,
    levels_of_variant,
    longest_run,
    person_size,
    pose_one_spine,
    pose_whole_spine,
)
from payerseg.synthesis.phantom import phantom_library
from payerseg.synthesis.shapes import SpineShapes


@pytest.mark.parametrize(
    ("variant", "count", "has", "lacks"),
    [
        ("usual", 24, "L5", "L6"),
        ("l6", 25, "L6", "T13"),
        ("t13", 25, "T13", "L6"),
        ("no_t12", 23, "T11", "T12"),
        ("sacralised", 24, "L5", "L6"),
    ],
)
def test_variants_hold_the_vertebrae_they_name(variant, count, has, lacks):
    posed = pose_whole_spine(phantom_library(), variant, np.random.default_rng(1))
    names = [p.vertebra.name for p in posed]
    assert len(names) == count
    assert has in names
    assert lacks not in names
    assert names == [v.name for v in Vertebra if v.name in names], "head to foot"


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("seed", range(4))
def test_every_spine_falls_from_head_to_foot_in_human_steps(variant, seed):
    posed = pose_whole_spine(phantom_library(), variant, np.random.default_rng(seed))
    steps = np.diff([p.center_mm for p in posed], axis=0)
    assert np.all(steps[:, 2] < -4)
    lengths = np.linalg.norm(steps, axis=1)
    assert lengths.min() > 7
    assert lengths.max() < 52


def test_scoliosis_bends_sideways_and_kyphosis_to_the_front():
    def spread(variant, axis):
        out = []
        for seed in range(6):
            posed = pose_whole_spine(phantom_library(), variant, np.random.default_rng(seed))
            up = np.array([p.axes[2] for p in posed])
            out.append(np.ptp(np.arctan2(up[:, axis], up[:, 2])))
        return np.rad2deg(np.mean(out))

    assert spread("scoliosis", 0) > spread("usual", 0) + 8
    assert spread("kyphosis", 1) > spread("usual", 1) + 5


def test_fractures_and_fusions_are_there():
    rng = np.random.default_rng(3)
    assert any(p.fracture for p in pose_whole_spine(phantom_library(), "fracture", rng))
    assert sum(p.fused_below for p in pose_whole_spine(phantom_library(), "fused", rng)) == 1


def test_a_sacralised_l5_has_grown_onto_the_sacrum_on_one_side_or_both():
    sides = set()
    for seed in range(12):
        posed = pose_whole_spine(phantom_library(), "sacralised", np.random.default_rng(seed))
        assert not any(any(p.sacral_wings) for p in posed[:-1])
        sides.add(posed[-1].sacral_wings)
    assert sides == {(True, True), (True, False), (False, True)}


def test_an_unknown_variant_is_named():
    with pytest.raises(ValueError, match="'l7' is unknown; expected one of usual"):
        levels_of_variant("l7")


def test_a_missing_level_is_named():
    spine = phantom_library().spines[0]
    shapes = {v: s for v, s in spine.shapes.items() if v is not Vertebra.T4}
    with pytest.raises(DatasetError, match="T4"):
        pose_whole_spine(
            ShapeLibrary((SpineShapes("x", shapes),)), "usual", np.random.default_rng(0)
        )


def test_one_persons_run_is_the_longest_and_gets_neighbours():
    spine = phantom_library().spines[0]
    keep = ["C3", "T11", "T12", "L1"]
    part = SpineShapes("part", {Vertebra[n]: spine.shapes[Vertebra[n]] for n in keep})
    assert [s.vertebra.name for s in longest_run(part)] == ["T11", "T12", "L1"]
    posed = pose_one_spine(part, phantom_library(), np.random.default_rng(0))
    assert [p.vertebra.name for p in posed] == ["T9", "T10", "T11", "T12", "L1", "L2", "L3"]


def test_the_phantom_is_of_usual_size():
    assert person_size(phantom_library().spines[0]) == pytest.approx(1.0, abs=0.1)
