"""P8, P10, P11, P21: pre-processing against numbers recorded from the reference (REFERENCE §1)."""

from pathlib import Path

import numpy as np
import pytest

from payerseg.config.model_card import SamplingSpec, WindowSpec
from payerseg.domain.grid import Grid
from payerseg.domain.spine_box import SpineBox
from payerseg.domain.volume import Volume
from payerseg.imaging.orient import to_canonical
from payerseg.imaging.regions import largest_component
from payerseg.preprocess.frames import (
    _size_xyz,
    reference_region,
    spine_frame,
    vertebra_frame,
    vertebrae_frame,
)
from payerseg.preprocess.inputs import (
    smooth_in_steps,
    smooth_to_file,
    spine_input,
    vertebra_input,
    vertebrae_input,
)

GOLDEN = Path(__file__).parents[1] / "golden" / "data"
CASES = ("lps", "ras", "asl", "pir", "lps_obl10", "ras_obl10")
MIRRORED = ("ras", "ras_obl10")  # REFERENCE Q1: the reference mirrors RAS files in x and y
INPUT_GATE = 1e-4
RESAMPLING_GATE_HU = 1e-2
LPS_FROM_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
REFERENCE_WINDOW = WindowSpec(scale=1 / 2048, low=-1.0, high=1.0)


def reference_sampling(spacing_mm, **settings):
    return SamplingSpec(
        spacing_mm,
        antialias="none",
        smoothing_mm=(0.75, 0.75),
        window=REFERENCE_WINDOW,
        size_rule="reference",
        **settings,
    )


STAGE_1 = reference_sampling(8.0)
STAGE_2 = reference_sampling(2.0, margin_mm=(64.0, 64.0, 64.0))
STAGE_3 = reference_sampling(1.0, size_xyz=(128, 128, 96), offset_mm=(0.0, 20.0, 0.0), sigma_mm=6.0)


@pytest.fixture
def recorded(request):
    """The function `recorded(name)(key)`: from the small copy here, else from the shared folder."""

    def open_recorded(name):
        def value(key):
            with np.load(GOLDEN / f"{name}.npz") as here:
                if key in here:
                    return here[key]
            folder = request.getfixturevalue("shared_dir") / "reference" / "golden"
            with np.load(folder / f"{name}.npz") as there:
                return there[key]

        return value

    return open_recorded


@pytest.fixture
def preprocess_golden(recorded):
    return recorded("itk_preprocess")


@pytest.fixture
def inputs_golden(recorded):
    return recorded("network_inputs")


@pytest.fixture(scope="module")
def boxes_golden():
    rows = np.load(GOLDEN / "bb_expand_and_size.npz")["rows"]
    names = ["origin", "size", "spacing", "low", "high", "start", "extent", "size2mm", "size8mm"]
    return {name: rows[:, 3 * k : 3 * k + 3] for k, name in enumerate(names)}


def canonical_case(golden, case):
    """The case in canonical order, its place in the world reset as the reference does."""
    stored = golden(f"{case}/raw_ijk").transpose(2, 1, 0)
    grid = Grid.from_matrix(stored.shape, LPS_FROM_RAS @ golden(f"{case}/affine_ras"))
    canonical, _ = to_canonical(Volume(stored, grid))
    spacing = tuple(golden(f"{case}/pre_spacing_xyz"))
    return Volume(canonical.array, Grid(canonical.grid.shape, spacing))


def as_the_reference_stores(case, array):
    return array[:, ::-1, ::-1] if case in MIRRORED else array


def test_size_rule_over_the_table():
    table = np.load(GOLDEN / "image_size_table_2mm.npz")["extent_x_y_z"]
    for extent, *size in table:
        assert _size_xyz(np.full(3, extent), STAGE_2).tolist() == size, extent


def test_box_growth_and_size(boxes_golden):
    g = boxes_golden
    for row in range(len(g["size"])):
        shape = tuple(int(n) for n in g["size"][row][::-1])
        scan = Grid(shape, tuple(g["spacing"][row]), tuple(g["origin"][row]))
        box = SpineBox(tuple(g["low"][row]), tuple(g["high"][row]))
        region = reference_region(scan, box, STAGE_2.margin_mm)
        np.testing.assert_allclose(region.low_mm, g["start"][row], atol=1e-9)
        np.testing.assert_allclose(region.size_mm, g["extent"][row], atol=1e-9)
        frame = vertebrae_frame(scan, box, STAGE_2)
        assert frame.shape[::-1] == tuple(g["size2mm"][row])


def test_size_from_the_grown_extent(boxes_golden):
    g = boxes_golden
    for spacing, wanted in ((2.0, "size2mm"), (8.0, "size8mm")):
        sampling = reference_sampling(spacing)
        sizes = [_size_xyz(extent, sampling) for extent in g["extent"]]
        np.testing.assert_array_equal(sizes, g[wanted])


@pytest.mark.parametrize("case", CASES)
def test_file_step(preprocess_golden, case):
    """P10; for RAS files the golden is the mirrored image, ours is the right one."""
    got = smooth_to_file(canonical_case(preprocess_golden, case), 0.75)
    wanted = as_the_reference_stores(case, preprocess_golden(f"{case}/pre_zyx"))
    assert got.array.dtype == np.int16
    np.testing.assert_array_equal(got.array, wanted)


@pytest.mark.parametrize("case", CASES)
def test_second_smoothing(preprocess_golden, inputs_golden, case):
    got = smooth_in_steps(canonical_case(preprocess_golden, case), (0.75, 0.75)).array
    wanted = as_the_reference_stores(case, inputs_golden(f"stage1/{case}/smoothed_twice_zyx"))
    np.testing.assert_allclose(got, wanted, atol=RESAMPLING_GATE_HU)


def mirrored_as_reference(ct, case):
    """The reference's view of a RAS file, so that its numbers can be compared at all."""
    if case not in MIRRORED:
        return ct
    return ct.with_array(np.ascontiguousarray(ct.array[:, ::-1, ::-1]))


@pytest.mark.parametrize("case", CASES)
def test_stage_1_input(preprocess_golden, inputs_golden, case):
    ct = mirrored_as_reference(canonical_case(preprocess_golden, case), case)
    got = spine_input(ct, STAGE_1)
    np.testing.assert_allclose(got.grid.origin_mm, inputs_golden(f"stage1/{case}/T0"), atol=1e-9)
    wanted = inputs_golden(f"stage1/{case}/input")[0]
    np.testing.assert_allclose(got.array, wanted, atol=INPUT_GATE)


@pytest.mark.parametrize("case", ["lps", "ras", "asl"])
def test_stage_2_input(preprocess_golden, inputs_golden, case):
    ct = mirrored_as_reference(canonical_case(preprocess_golden, case), case)
    bounds = inputs_golden(f"stage2/{case}/bb")
    got = vertebrae_input(ct, SpineBox(tuple(bounds[:3]), tuple(bounds[3:])), STAGE_2)
    np.testing.assert_allclose(got.grid.origin_mm, inputs_golden(f"stage2/{case}/T0"), atol=1e-9)
    wanted = inputs_golden(f"stage2/{case}/input")[0]
    np.testing.assert_allclose(got.array, wanted, atol=INPUT_GATE)


@pytest.mark.parametrize("case", ["lps", "ras"])
@pytest.mark.parametrize("label", [20, 25])
def test_stage_3_input(preprocess_golden, inputs_golden, case, label):
    ct = mirrored_as_reference(canonical_case(preprocess_golden, case), case)
    rows = inputs_golden(f"stage3/{case}/landmarks")
    point = tuple(rows[rows[:, 0] == label][0, 1:])
    place = f"stage3/{case}/{label}"
    frame = vertebra_frame(point, STAGE_3)
    np.testing.assert_allclose(frame.origin_mm, inputs_golden(f"{place}/T0"), atol=1e-5)
    got = vertebra_input(ct, point, STAGE_3).array
    np.testing.assert_allclose(got[..., 0], inputs_golden(f"{place}/input")[0], atol=INPUT_GATE)
    np.testing.assert_allclose(got[..., 1], inputs_golden(f"{place}/heatmap")[0], atol=INPUT_GATE)


def test_stage_1_frame_is_centred_on_the_scan():
    scan = Grid((40, 50, 60), (2.0, 2.0, 3.0), (10.0, -20.0, 30.0))
    frame = spine_frame(scan, STAGE_1)
    middle = (frame.corners_mm().min(axis=0) + frame.corners_mm().max(axis=0)) / 2
    wanted = (scan.corners_mm().min(axis=0) + scan.corners_mm().max(axis=0)) / 2
    np.testing.assert_allclose(middle, wanted, atol=1e-9)


@pytest.mark.parametrize("number", range(8))
@pytest.mark.parametrize(("connectivity", "key"), [(26, "payerseg_lcc"), (18, "verse_lcc")])
def test_largest_component(number, connectivity, key):
    golden = np.load(GOLDEN / "largest_component.npz")
    got = largest_component(golden[f"{number}/mask"], connectivity)
    np.testing.assert_array_equal(got, golden[f"{number}/{key}"] > 0)
