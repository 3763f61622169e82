"""Spines of boxes and wedges whose heights, angles and HU are known."""

import csv
import io

import numpy as np
import pytest

from payerseg.domain.grid import Grid
from payerseg.domain.landmarks import Landmark, Landmarks
from payerseg.domain.vertebra import Vertebra
from payerseg.domain.volume import Volume
from payerseg.errors import GridMismatch
from payerseg.measure.case import Endplates, coronal_curves, measure_case, measurements_csv

WIDTH, DEPTH = 44.0, 32.0
CORE_HU, SHELL_HU = 140.0, 700.0


def turn(coronal_deg, sagittal_deg):
    """Axes (columns: left, back, up) of a vertebra tilted left side up, then front up."""
    c, s = np.radians(coronal_deg), np.radians(sagittal_deg)
    coronal = np.array([[np.cos(c), 0, np.sin(c)], [0, 1, 0], [-np.sin(c), 0, np.cos(c)]])
    sagittal = np.array([[1, 0, 0], [0, np.cos(s), -np.sin(s)], [0, np.sin(s), np.cos(s)]])
    return (sagittal @ coronal).T


def draw(grid, vertebrae):
    """Draw wedges with an arch; a vertebra is (name, centre, axes rows, front, back height)."""
    points = grid.map_indices_to_world(np.indices(grid.shape).reshape(3, -1).T)
    labels, hu = np.zeros(len(points), np.uint8), np.full(len(points), 30.0)
    for name, center, axes, front, back in vertebrae:
        near = np.flatnonzero(np.abs(points[:, 2] - center[2]) < 48)
        left, behind, up = ((points[near] - center) @ np.asarray(axes)).T
        half = (front + (behind + DEPTH / 2) / DEPTH * (back - front)) / 2
        body = (np.abs(left) <= WIDTH / 2) & (np.abs(behind) <= DEPTH / 2) & (np.abs(up) <= half)
        ring = np.hypot(left / 15, (behind - DEPTH / 2 - 8) / 12)
        arch = (ring > 0.75) & (ring < 1.1) & (behind > DEPTH / 2 - 2) & (np.abs(up) < 8)
        spinous = (np.abs(left) < 4) & (behind > 36) & (behind < 60) & (np.abs(up + 6) < 7)
        whole = body | arch | spinous
        labels[near[whole]], hu[near[whole]] = Vertebra[name].verse_label, SHELL_HU
        core = (np.abs(left) <= WIDTH / 2 - 2) & (np.abs(behind) <= DEPTH / 2 - 2)
        hu[near[core & (np.abs(up) <= half - 2)]] = CORE_HU
    marks = Landmarks(Landmark(Vertebra[n], tuple(c)) for n, c, *_ in vertebrae)
    return (
        Volume(hu.reshape(grid.shape).astype(np.float32), grid),
        Volume(labels.reshape(grid.shape), grid),
        marks,
    )


def grid_around(vertebrae, spacing=(1.0, 1.0, 1.0), turned_rad=0.0):
    """A grid that holds the vertebrae, turned about the body's axis; no voxel lies on a wall."""
    centers = np.array([c for _, c, *_ in vertebrae], float)
    low = centers.min(axis=0) - np.array([30.2, 25.3, 25.4])
    high = centers.max(axis=0) + np.array([30.0, 72.0, 25.0])
    if turned_rad:
        low, high = low - 25, high + 25
    shape = tuple(int(n) for n in np.ceil((high - low) / spacing))[::-1]
    c, s = np.cos(turned_rad), np.sin(turned_rad)
    middle = (low + high) / 2
    turn_about_z, place = np.eye(4), np.diag([*spacing, 1.0])
    turn_about_z[:2, :2] = [[c, -s], [s, c]]
    place[:3, 3] = low - middle
    matrix = turn_about_z @ place
    matrix[:3, 3] += middle
    return Grid.from_matrix(shape, matrix)


def by_name(rows):
    return {(row.level, row.quantity): row.value for row in rows}


@pytest.fixture(scope="module")
def upright():
    vertebrae = [
        ("L1", (0, 0, 35), np.eye(3), 20.0, 28.0),
        ("L2", (0, 0, 0), np.eye(3), 26.0, 26.0),
        ("L3", (0, 0, -35), np.eye(3), 30.0, 22.0),
    ]
    return draw(grid_around(vertebrae), vertebrae)


def test_heights_of_wedges(upright):
    found = by_name(measure_case(*upright))
    for level, front, back in (("L1", 20, 28), ("L2", 26, 26), ("L3", 30, 22)):
        # the zones' middles lie at 15, 50 and 85 % of the depth
        for quantity, part in (("anterior", 0.15), ("middle", 0.5), ("posterior", 0.85)):
            expected = front + part * (back - front)
            assert found[level, f"height_{quantity}"] == pytest.approx(expected, abs=1.0)
        assert found[level, "depth"] == pytest.approx(DEPTH, abs=1.2)
        assert found[level, "width"] == pytest.approx(WIDTH, abs=1.2)
    assert found["L1", "wedge_ratio"] < 0.85 < 1.15 < found["L3", "wedge_ratio"]


def test_volume_counts_voxels(upright):
    _, labels, _ = upright
    found = by_name(measure_case(*upright))
    assert found["L2", "volume"] == pytest.approx(np.sum(labels.array == 21) / 1000)


def test_core_has_no_cortex(upright):
    found = by_name(measure_case(*upright))
    assert found["L2", "core_hu_mean"] == pytest.approx(CORE_HU, abs=2)
    assert found["L2", "core_hu_sd"] < 10


def test_landmark_off_by_a_centimetre_changes_little(upright):
    ct, labels, marks = upright
    off = by_name(measure_case(ct, labels, marks.moved(lambda p: p + np.array([4, 9, 3]))))
    straight = by_name(measure_case(*upright))
    for key in straight:
        if key[1].startswith("height"):
            assert off[key] == pytest.approx(straight[key], abs=0.5)


def test_landmark_outside_its_mask_is_not_used(upright):
    ct, labels, marks = upright
    far = marks.moved(lambda p: p + np.array([0, 26, 0]))  # in the canal
    found = by_name(measure_case(ct, labels, far))
    assert found["L2", "height_middle"] == pytest.approx(26, abs=1.0)


def test_without_landmarks_and_ct(upright):
    found = by_name(measure_case(None, upright[1], Landmarks()))
    assert found["L2", "height_middle"] == pytest.approx(26, abs=1.0)
    assert ("L2", "core_hu_mean") not in found


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.8, 0.8, 3.0), (1.5, 1.5, 1.5)])
@pytest.mark.parametrize(("coronal", "sagittal"), [(12.0, 0.0), (-8.0, 15.0), (0.0, -25.0)])
def test_tilt(coronal, sagittal, spacing):
    axes = turn(coronal, sagittal)
    vertebrae = [("L2", (0, 0, 0), axes, 26.0, 26.0)]
    rows = measure_case(*draw(grid_around(vertebrae, spacing), vertebrae))
    found = by_name(rows)
    normal = axes[:, 2]
    tolerance = 1.0 if max(spacing) < 2 else 2.0
    expected = np.degrees(np.arctan2(-normal[0], normal[2]))
    assert found["L2", "tilt_coronal"] == pytest.approx(expected, abs=tolerance)
    expected = np.degrees(np.arctan2(normal[1], normal[2]))
    assert found["L2", "tilt_sagittal"] == pytest.approx(expected, abs=tolerance)
    assert found["L2", "height_middle"] == pytest.approx(26, abs=1.2)


def test_oblique_grid_gives_the_same_numbers():
    vertebrae = [("L2", (0, 0, 0), turn(10, 5), 22.0, 28.0)]
    plain = by_name(measure_case(*draw(grid_around(vertebrae), vertebrae)))
    oblique = by_name(measure_case(*draw(grid_around(vertebrae, turned_rad=0.3), vertebrae)))
    for key, value in plain.items():
        if key[1].startswith(("height", "tilt")):
            assert oblique[key] == pytest.approx(value, abs=0.8)


def test_kyphosis_and_lordosis():
    names = [f"T{n}" for n in range(4, 13)] + [f"L{n}" for n in range(1, 6)]
    # front lower at T4, higher at T12 and L1, lower at L5
    tilts = dict(zip(names, [*np.linspace(-18, 18, 9), *np.linspace(18, -22, 5)], strict=True))
    vertebrae = [
        (name, (0, 0, -36 * k), turn(0, tilts[name]), 24.0, 24.0) for k, name in enumerate(names)
    ]
    grid = grid_around(vertebrae, (2.0, 2.0, 1.5))
    _, labels, marks = draw(grid, vertebrae)
    found = by_name(measure_case(None, labels, marks))
    assert found["T4-T12", "thoracic_kyphosis"] == pytest.approx(36, abs=2)
    assert found["L1-L5", "lumbar_lordosis"] == pytest.approx(40, abs=2)
    assert ("T1-T12", "thoracic_kyphosis") not in found


def endplates_of(tilts):
    names = [v for v in Vertebra if v is not Vertebra.T13]
    first = names.index(Vertebra.T3)
    out, x = {}, 0.0
    for k, tilt in enumerate(tilts):
        normal = turn(tilt, 0)[:, 2]
        x += 25 * np.tan(np.radians(tilt))
        out[names[first + k]] = Endplates(np.array([x, 0, -25.0 * k]), normal, normal)
    return out


def test_cobb_of_one_curve():
    curves = coronal_curves(endplates_of([2, 12, 6, 0, -9, -14, -3]))
    assert [(c.upper.name, c.lower.name) for c in curves] == [("T4", "T8")]
    assert curves[0].degrees == pytest.approx(26)


def test_cobb_of_two_curves_share_an_end_vertebra():
    curves = coronal_curves(endplates_of([0, 15, 5, -10, -25, -12, 0, 11, 4]))
    assert [(c.upper.name, c.lower.name) for c in curves] == [("T4", "T7"), ("T7", "T10")]
    assert [round(c.degrees) for c in curves] == [40, 36]
    assert {c.convex_to for c in curves} == {"left", "right"}


def test_side_of_the_curve():
    """The spine swings to the patient's left (+x) and back."""
    centers = [(0, 0, 0), (10, 0, -25), (14, 0, -50), (10, 0, -75), (0, 0, -100)]
    levels = [Vertebra.T5, Vertebra.T6, Vertebra.T7, Vertebra.T8, Vertebra.T9]
    plates = {}
    for vertebra, center, tilt in zip(levels, centers, (20, 10, 0, -10, -20), strict=True):
        normal = turn(tilt, 0)[:, 2]
        plates[vertebra] = Endplates(np.array(center, float), normal, normal)
    (curve,) = coronal_curves(plates)
    assert curve.convex_to == "left"
    assert curve.degrees == pytest.approx(40)


def test_straight_spine_has_one_small_curve_and_two_vertebrae_none():
    assert [c.degrees < 10 for c in coronal_curves(endplates_of([1, 0, 2, 1]))] == [True]
    assert coronal_curves(endplates_of([1, 5])) == []


def test_cut_body_has_a_volume_but_no_heights():
    vertebrae = [("L2", (0, 0, 0), np.eye(3), 26.0, 26.0)]
    ct, labels, marks = draw(grid_around(vertebrae), vertebrae)
    cut = labels.cropped((0, 0, 0), (30, *labels.array.shape[1:]))
    rows = measure_case(ct, cut, marks)
    assert [(r.quantity, r.note) for r in rows] == [("volume", "cut by the scan's face")]


def test_c1_has_a_volume_only():
    array = np.zeros((20, 40, 40), np.uint8)
    array[8:12, 5:35, 5:35] = 1
    array[8:12, 12:28, 12:28] = 0
    rows = measure_case(None, Volume(array, Grid(array.shape, (1, 1, 1))), Landmarks())
    assert [(r.level, r.quantity) for r in rows] == [("C1", "volume")]


def test_fragment_does_not_fail():
    array = np.zeros((20, 20, 20), np.uint8)
    array[10, 10, 10] = 20
    rows = measure_case(None, Volume(array, Grid(array.shape, (1, 1, 1))), Landmarks())
    assert [(r.level, r.quantity) for r in rows] == [("L1", "volume")]
    empty = Volume(np.zeros((3, 3, 3), np.uint8), Grid((3, 3, 3), (1, 1, 1)))
    assert measure_case(None, empty, Landmarks()) == []


def test_hu_of_what_a_window_cut_are_not_tabulated(upright):
    ct, labels, marks = upright
    array = ct.array.copy()
    zyx = np.rint(ct.grid.map_world_to_indices((0, 0, 0))[0]).astype(int)
    array[tuple(slice(k - 4, k + 4) for k in zyx)] = 600
    for low, high in ((-160.0, 500.0), (CORE_HU + 1.0, 5000.0)):
        cut = ct.with_array(array.clip(low, high))
        found = by_name(measure_case(cut, labels, marks, (low, high)))
        assert ("L2", "core_hu_mean") not in found
        assert (("L1", "core_hu_mean") in found) is (low < 0)
        assert ("L2", "height_middle") in found


def test_metal_is_noted(upright):
    ct, labels, marks = upright
    array = ct.array.copy()
    zyx = np.rint(ct.grid.map_world_to_indices((0, 0, 0))[0]).astype(int)
    array[tuple(slice(k - 5, k + 5) for k in zyx)] = 3000
    rows = measure_case(ct.with_array(array), labels, marks)
    notes = {(r.level, r.quantity): r.note for r in rows}
    assert notes["L2", "core_hu_mean"] == "metal in the core"
    assert notes["L1", "core_hu_mean"] == ""


def test_csv(upright):
    rows = measure_case(*upright)
    read = list(csv.DictReader(io.StringIO(measurements_csv(rows))))
    assert list(read[0]) == ["level", "quantity", "value", "unit", "note"]
    assert len(read) == len(rows)
    assert float(read[0]["value"]) == pytest.approx(rows[0].value, abs=1e-4)


def test_labels_with_channels_are_refused():
    with pytest.raises(GridMismatch, match="expected"):
        measure_case(None, Volume(np.zeros((2, 2, 2, 3)), Grid((2, 2, 2), (1, 1, 1))), Landmarks())
