"""A body that lies otherwise than its header says, and values that are no Hounsfield units."""

import numpy as np
import pytest

from payerseg.domain.grid import Grid
from payerseg.domain.landmarks import Landmark, Landmarks
from payerseg.domain.vertebra import Vertebra
from payerseg.domain.volume import Volume
from payerseg.report.scan_checks import is_upside_down, scan_findings, turned_to

LEVELS = [Vertebra[name] for name in ("T5", "T6", "T7", "T8")]
PITCH_MM = 24.0


def body(noise_hu=15.0):
    """Four vertebrae of boxes: body, laminae, spinous process that drops 12 mm on its way back."""
    n = int(len(LEVELS) * PITCH_MM / 2)
    z, y, x = np.meshgrid(*(np.arange(k) * 2.0 for k in (n, 70, 60)), indexing="ij", sparse=True)
    x, y = x - 59, y - 60
    hu = np.full(np.broadcast_shapes(z.shape, y.shape, x.shape), 50.0)
    hu[np.broadcast_to((y > 45) | (y < -40), hu.shape)] = -100
    for k in range(len(LEVELS)):
        dz = z - PITCH_MM * (k + 0.5)
        shell = (x / 15) ** 2 + (y / 13) ** 2
        hu[(shell < 1) & (np.abs(dz) < 9)] = 450
        hu[(shell < 0.7) & (np.abs(dz) < 8)] = 180
        slope = dz + 0.5 * (y - 20)
        hu[(np.abs(x) < 16) & (y > 22) & (y < 28) & (np.abs(slope) < 8)] = 500
        hu[(np.abs(x) < 5) & (y > 26) & (y < 48) & (np.abs(slope) < 6)] = 450
    hu += np.random.default_rng(0).normal(0, noise_hu, hu.shape)
    grid = Grid(hu.shape, (2.0, 2.0, 2.0), (-59.0, -60.0, 0.0))
    tops = [PITCH_MM * (k + 0.5) for k in range(len(LEVELS))][::-1]
    marks = [Landmark(v, (0.0, 0.0, top)) for v, top in zip(LEVELS, tops, strict=True)]
    return Volume(hu.astype(np.float32), grid), Landmarks(marks)


def codes(ct, marks, **more):
    return [finding.code for finding in scan_findings(ct, marks, **more)]


def test_an_upright_body_is_silent():
    assert codes(*body()) == []
    assert codes(*body(noise_hu=120.0)) == []


@pytest.mark.parametrize(
    ("quarters", "side"), [(2, "in front of"), (1, "to the left of"), (3, "to the right of")]
)
def test_a_turned_body_is_told_by_its_arches(quarters, side):
    ct, marks = body()
    square = np.pad(ct.array, [(0, 0), (0, 0), (5, 5)], constant_values=-100.0)
    array = np.ascontiguousarray(np.rot90(square, quarters, axes=(1, 2)))
    origin = {1: (-60.0, -69.0), 2: (-69.0, -78.0), 3: (-78.0, -69.0)}[quarters]
    grid = Grid(array.shape, (2.0, 2.0, 2.0), (*origin, 0.0))
    lying = Volume(array, grid)
    assert turned_to(lying, marks) == side
    (finding,) = scan_findings(lying, marks)
    assert side in finding.message


def test_an_upside_down_body_is_told_by_its_spinous_processes():
    ct, marks = body()
    assert not is_upside_down(ct, marks)
    mirrored = ct.with_array(np.ascontiguousarray(ct.array[::-1]))
    assert is_upside_down(mirrored, marks)
    (finding,) = scan_findings(mirrored, marks)
    assert "upside down" in finding.message


def test_two_vertebrae_are_too_few_to_say():
    ct, marks = body()
    few = Landmarks(list(marks.values())[:2])
    mirrored = ct.with_array(np.ascontiguousarray(ct.array[::-1, ::-1]))
    assert (turned_to(mirrored, few), is_upside_down(mirrored, few)) == ("", False)


@pytest.mark.parametrize(
    "change", [lambda v: v / 2, lambda v: v * 2.5, lambda v: v + 100, lambda v: v - 120]
)
def test_values_beside_the_vertebrae_that_are_no_hounsfield_units(change):
    ct, marks = body()
    wrong = ct.with_array(change(ct.array))
    assert codes(wrong, marks) == ["values"]
    assert codes(wrong, marks, hu_window=(-160.0, 240.0)) == []
