import numpy as np
import pytest
from measured_prior import RARE_TURNS, measure_prior, write_prior

from payerseg.domain.landmarks import Landmark, Landmarks
from payerseg.domain.vertebra import Vertebra
from payerseg.errors import BundleError
from payerseg.postprocess.spine_graph import SpinePrior


def chain(names, step_mm=(0.0, -6.0, 20.0), scale=1.0):
    step = scale * np.asarray(step_mm)
    return Landmarks(
        Landmark(Vertebra[name], tuple(-k * step)) for k, name in enumerate(names.split())
    )


def test_the_shipped_prior_covers_every_vertebra_and_its_rare_turns():
    prior = SpinePrior.default()
    turns = {(e.upper.name, e.lower.name): e for e in prior.edges}
    assert set(RARE_TURNS) <= set(turns)
    assert ("T13", "L1") in turns
    assert {v for e in prior.edges for v in (e.upper, e.lower)} == set(Vertebra)
    for vertebra in Vertebra:
        odds = [e.probability for e in prior.followers(vertebra)]
        assert sum(odds) <= 1 + 1e-9
    for edge in prior.edges:
        assert np.linalg.norm(edge.unit_xyz) == pytest.approx(1, abs=1e-3)
        assert edge.unit_xyz[0] == 0  # a mirrored header must not change anything
        assert 10 < edge.distance_mm < 40
        assert 0.04 * edge.distance_mm < edge.sd_mm < 0.15 * edge.distance_mm


def test_c1_is_the_dens_at_the_height_of_the_anterior_arch():
    """Our marks have it about 22 mm above C2; VerSe 2020's centroids lie 17 mm above."""
    edge = SpinePrior.default().followers(Vertebra.C1)[0]
    assert edge.lower is Vertebra.C2
    assert 20.5 < edge.distance_mm < 23


def test_measured_from_landmarks():
    prior = measure_prior([chain("C3 C4"), chain("C3 C4", scale=1.2)])
    (edge,) = prior.edges
    length = np.hypot(6, 20)
    assert edge.distance_mm == pytest.approx(1.1 * length)
    assert edge.sd_mm == pytest.approx(0.1 * length)
    assert edge.unit_xyz == pytest.approx((0, -6 / length, 20 / length))
    assert edge.n == 2


def test_size_free_spread_leaves_the_size_of_the_patient_out():
    scans = [chain("T3 T4 T5 T6", scale=s) for s in (0.7, 1.0, 1.2)]
    for edge in measure_prior(scans, size_free=True).edges:
        assert edge.sd_mm == pytest.approx(0.05 * edge.distance_mm)  # the floor


def test_rare_turns_share_the_samples_of_their_pool():
    prior = measure_prior([chain("T11 T12 L1")])
    turns = {(e.upper.name, e.lower.name): e for e in prior.edges}
    assert turns["T11", "L1"].n == turns["T13", "L1"].n == 0
    assert turns["T12", "L1"].n == 1
    assert turns["T11", "L1"].distance_mm == turns["T12", "L1"].distance_mm


def test_a_gap_in_the_marks_is_no_neighbourhood():
    assert measure_prior([chain("C3 C5")]).edges == ()


def test_write_and_read(tmp_path):
    file = tmp_path / "prior.json"
    prior = SpinePrior.default()
    write_prior(prior, file)
    assert SpinePrior.read(file) == prior


@pytest.mark.parametrize("text", ["", "{}", '{"format": 2}', '{"format": 1, "edges": [{}]}'])
def test_a_damaged_file_is_named(tmp_path, text):
    file = tmp_path / "prior.json"
    file.write_text(text)
    with pytest.raises(BundleError, match=r"prior\.json"):
        SpinePrior.read(file)
    with pytest.raises(BundleError, match="cannot be read"):
        SpinePrior.read(tmp_path / "none.json")
