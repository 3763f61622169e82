"""Checkpoints of the reference: all import and reproduce its outputs; anything odd is named."""

import json
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest

from payerseg.config.model_card import SCNetSpec
from payerseg.config.weights import check_weights, checkpoint_prefix
from payerseg.errors import BundleError
from payerseg.networks.bundle import ModelBundle, network_shapes, save
from payerseg.networks.checkpoint import (
    SAMPLINGS,
    SUFFIX,
    expected_shapes,
    import_checkpoint,
    map_variables,
)
from payerseg.networks.tensor_bundle import TensorBundle, crc32c

STAGES = ["spine_localization", "vertebrae_localization", "vertebrae_segmentation"]
PARAMETERS = dict(zip(STAGES, [5_727_745, 7_044_628, 5_730_337], strict=True))
GATE = 1e-4


@pytest.fixture
def checkpoints(shared_dir):
    return shared_dir / "reference" / "checkpoints"


@pytest.fixture
def published(checkpoints):
    text = (checkpoints / "published_verse2020_variables.json").read_text()
    return {
        stage: {name: tuple(shape) for name, shape in variables.items()}
        for stage, variables in json.loads(text).items()
    }


@pytest.fixture
def copied(checkpoints, tmp_path):
    for path in (checkpoints / "spine_localization").glob("ckpt-10.*"):
        shutil.copyfile(path, tmp_path / path.name)
    return tmp_path / "ckpt-10"


@pytest.mark.parametrize("stage", STAGES)
def test_a_checkpoint_reproduces_the_references_outputs(stage, checkpoints, tmp_path):
    prefix = checkpoints / stage / "ckpt-10"
    check_weights(prefix, stage)
    bundle = ModelBundle.open(prefix, stage)
    golden = np.load(prefix.parent / "forward.npz")
    model = bundle.network()
    outputs = [model.output]
    if isinstance(bundle.card.network, SCNetSpec):
        outputs += [model.get_layer(n).output for n in ("local_heatmaps", "spatial_heatmaps")]
    found = keras.Model(model.input, outputs).predict_on_batch(golden["x_ndhwc"])
    for i, array in enumerate(found if isinstance(found, list) else [found]):
        np.testing.assert_allclose(array, golden[f"y{i}_ndhwc"], atol=GATE)
    save(model, bundle.card, tmp_path / stage)
    again = ModelBundle.open(tmp_path / stage, stage)
    assert again.card.sampling == SAMPLINGS[stage]
    assert set(again.weights) == set(bundle.weights)
    for name, array in bundle.weights.items():
        np.testing.assert_array_equal(again.weights[name], array)


def test_the_card_of_stage_2_names_its_channels(checkpoints):
    card = ModelBundle.open(
        checkpoints / "vertebrae_localization" / "ckpt-10.index", "vertebrae_localization"
    ).card
    assert card.channels == (*range(1, 26), 28)
    assert card.sampling.size_rule == "reference"
    assert card.sampling.margin_mm == (64.0, 64.0, 64.0)


@pytest.mark.parametrize("stage", STAGES)
def test_every_published_variable_finds_its_place(stage, published):
    names, spec = map_variables(published[stage], stage, "published")
    theirs = {name for name in published[stage] if name.startswith("model/")}
    theirs = {name for name in theirs if "OPTIMIZER_SLOT" not in name}
    assert set(names.values()) == theirs
    assert expected_shapes(spec) == network_shapes(spec)
    count = sum(int(np.prod(shape)) for shape in expected_shapes(spec).values())
    assert count == PARAMETERS[stage]


def change_missing(shapes):
    shapes.pop(f"model/unet/contracting_layers/level2/layers/2/bias{SUFFIX}")


def change_missing_level(shapes):
    for name in [n for n in shapes if "contracting_layers/level2/" in n]:
        shapes.pop(name)


def change_extra(shapes):
    shapes[f"model/unet/attention/kernel{SUFFIX}"] = (3, 3)


def change_extra_block(shapes):
    shapes[f"model/unet/contracting_layers/level7/layers/0/kernel{SUFFIX}"] = (3, 3, 3, 96, 96)


def change_unknown_root(shapes):
    shapes[f"teacher/kernel{SUFFIX}"] = (3,)


def change_shape(shapes):
    shapes[f"model/unet/expanding_layers/level1/layers/0/kernel{SUFFIX}"] = (3, 3, 3, 96, 96)


def change_rank(shapes):
    shapes[f"model/unet/contracting_layers/level3/layers/0/bias{SUFFIX}"] = ()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (change_missing, r"for contracting2_conv1/bias \(96,\) is missing"),
        (change_missing_level, r"for contracting2_conv0/bias is missing"),
        (change_extra, r"model/unet/attention/kernel.* is left over"),
        (change_extra_block, r"contracting5_conv0/bias is missing"),
        (change_unknown_root, r"teacher/kernel.* is left over"),
        (change_shape, r"expanding_layers/level1/.*96, 96\); expected \(3, 3, 3, 192, 96\)"),
        (change_rank, r"level3/layers/0/bias.* has shape \(\); expected 1 dimensions"),
    ],
)
def test_a_variable_that_does_not_fit_is_named(change, message, published):
    shapes = dict(published["spine_localization"])
    change(shapes)
    with pytest.raises(BundleError, match=message):
        map_variables(shapes, "spine_localization", "published")


def test_another_stages_checkpoint(published):
    with pytest.raises(BundleError, match="is missing; is this another stage's checkpoint"):
        map_variables(published["spine_localization"], "vertebrae_localization", "published")
    with pytest.raises(BundleError, match="no network for stage"):
        import_checkpoint(Path("ckpt-1"), "preparation")


def test_a_checkpoint_needs_its_stage(copied):
    with pytest.raises(BundleError, match="name the stage"):
        ModelBundle.open(copied)


def test_a_damaged_checkpoint_is_named(copied):
    data = copied.parent / "ckpt-10.data-00000-of-00001"
    whole = data.read_bytes()
    data.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BundleError, match=r"ends inside model/.*truncated"):
        ModelBundle.open(copied, STAGES[0])
    data.write_bytes(bytes(b ^ 1 for b in whole))
    with pytest.raises(BundleError, match="checksum of model/"):
        ModelBundle.open(copied, STAGES[0])
    data.unlink()
    with pytest.raises(BundleError, match="missing beside its index"):
        ModelBundle.open(copied, STAGES[0])
    with pytest.raises(BundleError, match="no data file beside it"):
        check_weights(copied, STAGES[0])


def test_a_damaged_index_is_named(copied):
    index = copied.parent / "ckpt-10.index"
    whole = index.read_bytes()
    index.write_bytes(whole[:-5])
    for opening in (ModelBundle.open, check_weights):
        with pytest.raises(BundleError, match=r"ckpt-10\.index is (damaged|truncated)"):
            opening(copied, STAGES[0])
    index.write_bytes(whole[:100] + bytes([whole[100] ^ 255]) + whole[101:])
    with pytest.raises(BundleError, match="damaged"):
        ModelBundle.open(copied, STAGES[0])


def test_reads_the_same_as_tensorflow(checkpoints):
    tensorflow = pytest.importorskip("tensorflow")
    prefix = checkpoints / "vertebrae_localization" / "ckpt-10"
    theirs = tensorflow.train.load_checkpoint(str(prefix))
    ours = TensorBundle(prefix)
    shapes = {name: tuple(s) for name, s in theirs.get_variable_to_shape_map().items()}
    assert {name: entry.shape for name, entry in ours.entries.items()} == shapes
    for name in [n for n in shapes if n.startswith("model/")]:
        np.testing.assert_array_equal(ours.read(name), theirs.get_tensor(name))
    with pytest.raises(BundleError, match="no variable nonsense"):
        ours.read("nonsense")
    with pytest.raises(BundleError, match="not floats"):
        ours.read("_CHECKPOINTABLE_OBJECT_GRAPH")


def test_crc32c_has_its_published_check_value():
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(b"") == 0
    assert crc32c(bytes(32)) == 0x8A9136AA  # RFC 3720, B.4


def test_prefix_by_name_or_by_index(copied):
    assert checkpoint_prefix(copied) == copied
    assert checkpoint_prefix(copied.parent / "ckpt-10.index") == copied
    assert checkpoint_prefix(copied.parent) is None
