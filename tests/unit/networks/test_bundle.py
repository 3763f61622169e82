"""Bundles: what is saved is what opens, to the byte; everything else is refused with a reason."""

import json
from dataclasses import replace

import h5py
import numpy as np
import pytest

from payerseg.config.model_card import ModelCard, SamplingSpec, UNetSpec
from payerseg.config.weights import check_weights, file_sha256
from payerseg.errors import BundleError
from payerseg.networks.build import build_network
from payerseg.networks.bundle import ModelBundle, network_arrays, save

STAGE = "spine_localization"
SPEC = UNetSpec((4, 6), normalization="batch", dropout=0.1)
CARD = ModelCard(STAGE, SPEC, SamplingSpec(spacing_mm=8.0))


@pytest.fixture
def model():
    return build_network(SPEC, seed=4)


@pytest.fixture
def folder(model, tmp_path):
    save(model, CARD, tmp_path / "bundle")
    return tmp_path / "bundle"


def rewrite(folder, change):
    """Change the weights file and make the card's checksum fit again."""
    weights = folder / "model.weights.h5"
    with h5py.File(weights, "r+") as file:
        change(file)
    card = json.loads((folder / "model.json").read_text())
    card["weights_sha256"] = file_sha256(weights)
    (folder / "model.json").write_text(json.dumps(card))


def test_opens_what_was_saved(model, folder):
    bundle = ModelBundle.open(folder, STAGE)
    assert replace(bundle.card, weights_sha256="") == CARD
    x = np.random.default_rng(0).normal(size=(1, 4, 6, 8, 1)).astype("float32")
    expected = model.predict_on_batch(x)
    np.testing.assert_array_equal(bundle.network().predict_on_batch(x), expected)
    check_weights(folder, STAGE)


def test_equal_models_give_equal_bytes_and_nothing_is_left_behind(model, folder, tmp_path):
    save(network_arrays(model), CARD, tmp_path / "again")
    save(model, CARD, folder)
    for name in ("model.json", "model.weights.h5"):
        assert (folder / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
    assert sorted(p.name for p in folder.iterdir()) == ["model.json", "model.weights.h5"]


def test_saving_keeps_other_files(model, folder):
    (folder / "spine_prior.json").write_text("{}")
    save(model, CARD, folder)
    assert (folder / "spine_prior.json").read_text() == "{}"


def test_float16_storage_halves_the_file_and_says_so(tmp_path):
    spec = UNetSpec((24, 24))
    model = build_network(spec)
    card = replace(CARD, network=spec)
    save(model, card, tmp_path / "full")
    written = save(model, replace(card, weights_dtype="float16"), tmp_path / "half")
    assert ModelCard.read(tmp_path / "half").weights_dtype == written.weights_dtype == "float16"
    sizes = [(tmp_path / n / "model.weights.h5").stat().st_size for n in ("half", "full")]
    assert sizes[0] < 0.6 * sizes[1]
    bundle = ModelBundle.open(tmp_path / "half", STAGE)
    for name, array in network_arrays(model).items():
        assert bundle.weights[name].dtype == np.float32
        np.testing.assert_allclose(bundle.weights[name], array, rtol=5e-4, atol=1e-6)


def test_a_weight_too_large_for_float16_is_refused(model, tmp_path):
    arrays = network_arrays(model)
    arrays["head/bias"] = np.array([1e6], "float32")
    with pytest.raises(BundleError, match=r"head/bias.*float16"):
        save(arrays, replace(CARD, weights_dtype="float16"), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_cut_file_is_named(folder):
    weights = folder / "model.weights.h5"
    weights.write_bytes(weights.read_bytes()[:-100])
    for opening in (ModelBundle.open, check_weights):
        with pytest.raises(BundleError, match=r"truncated, altered or from another bundle"):
            opening(folder, STAGE)


def test_weights_or_card_missing(folder, tmp_path):
    (folder / "model.weights.h5").unlink()
    with pytest.raises(BundleError, match=r"no model\.weights\.h5; copy the whole bundle"):
        ModelBundle.open(folder, STAGE)
    (folder / "model.json").unlink()
    with pytest.raises(BundleError, match=r"holds no model\.json"):
        ModelBundle.open(folder, STAGE)
    for path in (tmp_path / "nowhere", tmp_path / "nowhere" / "ckpt-1"):
        with pytest.raises(BundleError, match=r"no weights at|holds no"):
            check_weights(path, STAGE)


def test_another_stages_bundle(folder):
    for opening in (ModelBundle.open, check_weights):
        with pytest.raises(BundleError, match=r"for spine_localization; expected vertebrae"):
            opening(folder, "vertebrae_localization")
    assert ModelBundle.open(folder).card.stage == STAGE


def test_a_future_card(folder):
    card = json.loads((folder / "model.json").read_text()) | {"format": 99}
    (folder / "model.json").write_text(json.dumps(card))
    with pytest.raises(BundleError, match="card format 99"):
        ModelBundle.open(folder, STAGE)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.__delitem__("head/bias"), r"head/bias is missing"),
        (
            lambda f: f.create_dataset("extra/kernel", data=np.zeros(3)),
            r"extra/kernel is left over",
        ),
        (
            lambda f: (f.__delitem__("head/bias"), f.create_dataset("head/bias", data=np.zeros(2))),
            r"head/bias has shape \(2,\), expected \(1,\)",
        ),
        (lambda f: f["head/bias"].__setitem__(0, np.nan), r"head/bias holds values .* not finite"),
        (
            lambda f: (f.__delitem__("head/bias"), f.create_dataset("head/bias", data=[b"text"])),
            r"cannot be read as weights",
        ),
    ],
)
def test_weights_of_another_network(folder, change, message):
    rewrite(folder, change)
    with pytest.raises(BundleError, match=message):
        ModelBundle.open(folder, STAGE)


def other(file, **how):
    """Put another dataset in the place of the head's kernel."""
    shape = file["head/kernel"].shape
    del file["head/kernel"]
    if "layout" in how:
        layout = h5py.VirtualLayout(shape=shape, dtype="f4")
        layout[:] = h5py.VirtualSource(how["layout"], "x", shape=shape)
        file.create_virtual_dataset("head/kernel", layout)
    else:
        file.create_dataset("head/kernel", **({"shape": shape, "dtype": "f4"} | how))


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"shape": (100_000, 17_000), "chunks": (1000, 1000)}, r"head/kernel has shape"),
        ({"external": [("/etc/hostname", 0, 64)]}, "lies in another file"),
        ({"layout": "secret.h5"}, "lies in another file"),
        ({"dtype": "c8"}, "expected floats"),
        ({"dtype": "i4"}, "expected floats"),
    ],
)
def test_weights_that_claim_too_much_or_lie_elsewhere_are_not_read(
    folder, monkeypatch, how, message
):
    rewrite(folder, lambda file: other(file, **how))
    monkeypatch.setattr(h5py.Dataset, "__getitem__", lambda *_: pytest.fail("a value was read"))
    with pytest.raises(BundleError, match=message):
        ModelBundle.open(folder, STAGE)


def test_the_other_byte_order_is_the_same(folder):
    expected = ModelBundle.open(folder, STAGE).weights["head/kernel"]
    rewrite(folder, lambda file: other(file, data=expected.astype(">f4"), dtype=">f4"))
    np.testing.assert_array_equal(ModelBundle.open(folder, STAGE).weights["head/kernel"], expected)


def test_a_file_that_is_no_hdf5(folder):
    (folder / "model.weights.h5").write_bytes(b"not weights")
    card = json.loads((folder / "model.json").read_text())
    card["weights_sha256"] = file_sha256(folder / "model.weights.h5")
    (folder / "model.json").write_text(json.dumps(card))
    with pytest.raises(BundleError, match="no HDF5 file"):
        ModelBundle.open(folder, STAGE)


def test_a_card_of_no_network(folder):
    card = json.loads((folder / "model.json").read_text())
    card["network"]["widths"] = []
    (folder / "model.json").write_text(json.dumps(card))
    with pytest.raises(BundleError, match="describes no network"):
        ModelBundle.open(folder, STAGE)
