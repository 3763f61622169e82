from dataclasses import replace

import pytest

from payerseg.config import weights
from payerseg.config.model_card import (
    CARD_FILE,
    LEVELS_FOLDER,
    WEIGHTS_FILE,
    ModelCard,
    SamplingSpec,
    UNetSpec,
)
from payerseg.config.training import LEVEL_NETWORK
from payerseg.errors import BundleError


def test_a_clone_keeps_weights_beside_the_library(repository):
    assert weights.programs_parent() == repository
    assert weights.default_bundle("x") == repository / "model_weights" / "x"


def test_a_further_family_has_a_folder_of_its_own(repository):
    expected = repository / "model_weights" / "verse_pytorch" / "x"
    assert weights.default_bundle("x", "verse_pytorch") == expected


def test_a_wheel_keeps_weights_inside_the_library(tmp_path, monkeypatch):
    (tmp_path / "payerseg" / "model_weights").mkdir(parents=True)
    monkeypatch.setattr(weights, "package_folder", lambda: tmp_path / "payerseg")
    assert weights.default_bundle("x") == tmp_path / "payerseg" / "model_weights" / "x"


CARD = ModelCard("spine_localization", UNetSpec((4, 8)), SamplingSpec(8.0))
LEVELS = replace(CARD, stage=LEVEL_NETWORK)


def put_bundle(folder, card=CARD, content=b"numbers", digest=None):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / WEIGHTS_FILE).write_bytes(content)
    digest = weights.file_sha256(folder / WEIGHTS_FILE) if digest is None else digest
    (folder / CARD_FILE).write_text(replace(card, weights_sha256=digest).to_json())
    return folder


def test_a_whole_bundle_is_taken(tmp_path):
    folder = put_bundle(tmp_path / "b")
    weights.check_weights(folder, "spine_localization")
    assert weights.read_checked_card(folder).sampling.spacing_mm == 8.0
    put_bundle(folder / LEVELS_FOLDER, LEVELS)
    weights.check_weights(folder, "spine_localization")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda f: (f / WEIGHTS_FILE).write_bytes(b"number"), "truncated, altered or from another"),
        (lambda f: put_bundle(f, digest=""), "its card says nothing"),
        (lambda f: (f / WEIGHTS_FILE).unlink(), "copy the whole bundle folder"),
        (lambda f: (f / CARD_FILE).unlink(), "holds no model.json"),
        (lambda f: put_bundle(f, LEVELS), "were two paths swapped"),
        (lambda f: put_bundle(f / LEVELS_FOLDER, CARD), "expected vertebra_levels"),
    ],
)
def test_a_bundle_that_is_not_whole_is_refused_with_what_to_do(tmp_path, spoil, said):
    folder = put_bundle(tmp_path / "b")
    spoil(folder)
    with pytest.raises(BundleError, match=said):
        weights.check_weights(folder, "spine_localization")


def test_a_checkpoint_is_named_by_its_prefix(tmp_path):
    prefix = tmp_path / "model"
    with pytest.raises(BundleError, match="no weights at"):
        weights.check_weights(prefix, "spine_localization")
    index = tmp_path / "model.index"
    index.write_bytes(b"table" + weights.CHECKPOINT_INDEX_TAIL)
    assert weights.checkpoint_prefix(prefix) == weights.checkpoint_prefix(index) == prefix
    with pytest.raises(BundleError, match="no data file beside it"):
        weights.check_weights(prefix, "spine_localization")
    (tmp_path / "model.data-00000-of-00001").write_bytes(b"x")
    weights.check_weights(prefix, "spine_localization")
    index.write_bytes(b"t")
    with pytest.raises(BundleError, match="truncated or no checkpoint index"):
        weights.check_weights(index, "spine_localization")
