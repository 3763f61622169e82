"""What is accepted as a CT, what is not, and what is repaired."""

import nibabel as nib
import numpy as np
import pytest

from payerseg.errors import NotHounsfield
from payerseg.preprocess.hounsfield import ValueRepair, judge_values, sample_of

SHAPE = (60, 80, 80)


def judge(values, name="scan.nii.gz"):
    verdict = judge_values(values, name)
    return verdict.repair, verdict.notes, verdict.facts


def body(noise_hu=12.0, seed=0):
    """A crude but honest CT histogram: air, lung, fat, soft tissue, bone, a little metal."""
    rng = np.random.default_rng(seed)
    z, y, x = np.meshgrid(*[np.linspace(-1, 1, n) for n in SHAPE], indexing="ij")
    hu = np.full(SHAPE, -1000.0)
    hu[x**2 + (1.4 * y) ** 2 < 0.8] = -90
    hu[x**2 + (1.4 * y) ** 2 < 0.65] = 45
    hu[((np.abs(x) - 0.4) / 0.2) ** 2 + (y / 0.25) ** 2 + z**2 < 1] = -850
    hu[(x / 0.12) ** 2 + ((y - 0.35) / 0.1) ** 2 < 1] = 350
    return hu + rng.normal(0, noise_hu, SHAPE)


def inside(noise_hu=20.0):
    """A crop that lies wholly in the body: no air."""
    return body(noise_hu)[20:40, 38:60, 30:50]


def magnetic(seed=0, top=1500.0):
    """MR-like: no negatives, a dark background, tissues of many brightnesses, a coil gradient."""
    rng = np.random.default_rng(seed)
    z, y, x = np.meshgrid(*[np.linspace(-1, 1, n) for n in SHAPE], indexing="ij")
    signal = 0.35 + 0.15 * np.sin(7 * x) * np.cos(5 * y) + 0.2 * (np.sin(13 * z + 3 * x) > 0.4)
    signal = np.where(x**2 + (1.4 * y) ** 2 < 0.75, signal * (1 + 0.5 * y), 0.02)
    return np.abs(top * signal + rng.normal(0, 0.02 * top, SHAPE))


GOOD = {
    "body": body,
    "noisy": lambda: body(120.0),
    "12 bit": lambda: np.clip(body(), -1024, 3071),
    "capped low": lambda: np.clip(body(), -200, 3071),
    "inside the body": inside,
    "inside, contrast": lambda: inside() + 40,
    "water phantom": lambda: np.where(body(0) > -500, 0.0, -1000.0),
    "noisy water": lambda: np.random.default_rng(0).normal(0, 15, SHAPE),
    "mostly air": lambda: np.where(np.arange(SHAPE[2]) < 74, -1000.0, body()),
    "only air": lambda: np.random.default_rng(0).normal(-1000, 15, SHAPE),
    "padding": lambda: np.where(np.arange(SHAPE[2]) < 20, -3024.0, body()),
    "deep padding": lambda: np.where(np.arange(SHAPE[2]) < 50, -32768.0, body()),
    "metal": lambda: np.where(body() > 330, 30000.0, body()),
    "some NaN": lambda: np.where(np.arange(SHAPE[2]) < 20, np.nan, body()),
}
BAD = {
    "constant": lambda: np.full(SHAPE, -1000.0),
    "all NaN": lambda: np.full(SHAPE, np.nan),
    "all padding": lambda: np.full(SHAPE, -2000.0),
    "zero to one": lambda: (np.clip(body(), -1000, 2000) + 1000) / 3000,
    "minus one to one": lambda: np.clip(body() / 1000, -1, 1),
    "standardised": lambda: (body() - body().mean()) / body().std(),
    "8 bit": lambda: np.rint((np.clip(body(), -160, 240) + 160) / 400 * 255),
    "8 bit, full range": lambda: np.rint((np.clip(body(), -1000, 2000) + 1000) / 3000 * 255),
    "binary": lambda: (body() > 200).astype(float),
    "labels": lambda: np.digitize(body(0), [-900, -500, 0, 200]).astype(float),
    "labels with a background of -1": lambda: np.digitize(body(0), [-900, 0, 200]) - 1.0,
    "magnetic": magnetic,
    "magnetic, dim": lambda: magnetic(top=400.0),
    "magnetic, 12 bit": lambda: magnetic(top=3500.0),
    "magnetic, 16 bit": lambda: magnetic(top=30000.0),
    "emission": lambda: np.random.default_rng(0).exponential(800.0, SHAPE),
    "16 bit noise": lambda: np.random.default_rng(0).uniform(0, 65535, SHAPE),
}


@pytest.mark.parametrize("name", sorted(GOOD))
def test_accepted_as_it_is(name):
    repair = judge_values(GOOD[name](), "scan.nii.gz").repair
    assert repair.is_identity


@pytest.mark.parametrize("name", sorted(BAD))
def test_refused_with_the_reason(name):
    with pytest.raises(NotHounsfield, match=r"^scan\.nii\.gz .*Hounsfield"):
        judge_values(BAD[name](), "scan.nii.gz")


@pytest.mark.parametrize("name", ["body", "noisy", "inside the body", "12 bit", "metal"])
@pytest.mark.parametrize("offset", [1024.0, 8192.0])
def test_an_offset_is_found_and_told(name, offset):
    values = np.maximum(GOOD[name]() + offset, 0)
    repair, notes, _ = judge(values, "scan.nii.gz")
    assert repair == ValueRepair(offset)
    assert [note.code for note in notes if note.code == "offset_removed"]
    np.testing.assert_allclose(repair.apply(values), np.maximum(GOOD[name](), -offset))


def test_an_offset_behind_negative_padding():
    values = np.where(np.arange(SHAPE[2]) < 10, -2000, body() + 1024)
    repair = judge_values(
        np.where(values > -1500, np.maximum(values, 0), values), "scan.nii.gz"
    ).repair
    assert repair == ValueRepair(1024.0)


def test_a_lost_sign_is_restored():
    wrapped = np.rint(body()).astype(np.int16).astype(np.uint16)
    repair, notes, _ = judge(wrapped, "scan.nii.gz")
    assert repair == ValueRepair(unwrap=True)
    assert "sign_restored" in {note.code for note in notes}
    np.testing.assert_array_equal(repair.apply(wrapped), np.rint(body()))


def test_padding_is_noted():
    assert {note.code for note in judge(GOOD["padding"]())[1]} == {"padding"}
    assert not judge(body())[1]


@pytest.mark.parametrize(("low", "high"), [(-160, 240), (-500, 1300), (-1024, 340)])
def test_a_window_is_reviewed_and_its_ends_are_remembered(low, high):
    values = np.rint(body())
    bone = values > 250
    values[bone] += np.random.default_rng(1).exponential(400, bone.sum())
    _, notes, facts = judge(np.clip(values, low, high))
    assert [(note.code, note.review) for note in notes] == [("bone_cut_off", True)]
    assert facts.get("hu_ceiling") == high
    assert facts.get("hu_floor") == (low if low > -1000 else None)


def test_the_usual_end_of_a_scanners_range_is_no_window():
    values = body()
    values[:2, :2] = 9000
    for top in (2496, 3071, 8191):
        _, notes, facts = judge(np.clip(values, -1024, top))
        assert (notes, facts) == ((), {})


def test_a_lost_offset_under_noise_and_overshoot():
    """Air that noise or a spline takes below zero hid the offset."""
    noisy = body(40.0) + 1024
    assert np.percentile(noisy, 0.5) < -20
    assert judge(noisy)[0] == ValueRepair(1024.0)
    for offset in (1024.0, 2048.0, 4096.0):
        assert judge(body(40.0) + offset)[0] == ValueRepair(offset)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        (lambda: body() / 2, "half of what they should be"),
        (lambda: body() * 2, "twice what they should be"),
        (lambda: -body(), "wrong sign"),
        (lambda: -np.rint(body()).clip(-1000, 3071), "wrong sign"),
        (lambda: (np.clip(body(), -1000, 3000) + 1000) / 2 - 1000, "Hounsfield"),
        (lambda: np.rint((np.clip(body(), -1000, 2000) + 1000) / 3000 * 255) - 128, "8-bit"),
        (lambda: np.rint((np.clip(body(), -160, 240) + 160) / 400 * 255) - 128, "8-bit"),
        (lambda: body() * 0.8, "air lies at -8"),
        (lambda: body() + 200, "air lies at -8"),
        (lambda: magnetic() - 500, "Hounsfield"),
        (lambda: magnetic() - 1024, "Hounsfield"),
        (lambda: magnetic(top=400.0) - 1024, "Hounsfield"),
    ],
)
def test_wrong_scale_sign_and_shift_are_refused(values, told):
    with pytest.raises(NotHounsfield, match=told):
        judge(values())


def test_what_is_only_unlike_is_reviewed():
    """A cone-beam CT: soft tissue at 164."""
    values = np.where(body(0) > -500, 0.65 * body() + 150, -1000)
    _, notes, _ = judge(values)
    assert [(note.code, note.review) for note in notes] == [("doubtful_values", True)]


def test_much_metal_is_no_fault():
    values = body()
    values.ravel()[np.random.default_rng(0).integers(0, values.size, values.size // 50)] = 30000
    assert judge(values)[:2] == (ValueRepair(), ())


def test_the_sample_is_small_and_covers_the_volume():
    array = np.zeros((300, 512, 512), np.int8)
    sample = sample_of(array)
    assert 500_000 < sample.size < 4_000_000
    assert np.shares_memory(sample, array)
    assert sample_of(np.zeros((5, 6, 7))).shape == (5, 6, 7)


def test_real_scans_are_accepted_without_a_remark(shared_dir):
    files = sorted((shared_dir / "data/ct").glob("verse*.nii.gz"))
    files += sorted((shared_dir / "data/openkbp").glob("*_pt1?.nii.gz"))[:3]
    files += [
        shared_dir / "data/ct" / f"{name}.nii.gz" for name in ("moose_neck_slab", "matrad_frm2")
    ]
    for path in files:
        values = np.asarray(nib.load(path).dataobj)
        repair, notes, _ = judge(sample_of(values), path.name)
        assert repair.is_identity, path.name
        assert not notes, path.name
        shifted = np.maximum(sample_of(values).astype(float) + 1024, 0)
        assert judge_values(shifted, path.name).repair == ValueRepair(1024.0), path.name
