"""The card that travels with weights, and who made what they have seen."""

import json
from pathlib import Path

import pytest

from payerseg.config.model_card import (
    ModelCard,
    SamplingSpec,
    SCNetSpec,
    Source,
    TrainingRecord,
    UNetSpec,
    joined_sources,
    single_sources,
)
from payerseg.config.weights import weights_folder
from payerseg.errors import BundleError

SHIPPED = sorted(weights_folder().rglob("model.json"))
CARD = ModelCard(
    "vertebrae_localization",
    SCNetSpec(UNetSpec((4, 8)), UNetSpec((4,), head_stddev=0.1)),
    SamplingSpec(2.0, size_xyz=(8, 8, 16), smoothing_mm=(0.75,)),
    channels=(1, 2),
    training=TrainingRecord((Source("A", "CC0"),), {"dice": 0.5}),
)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: f"{path.parts[-3]}/{path.parts[-2]}")
def test_shipped_cards_are_read_and_written_byte_for_byte(path: Path):
    assert ModelCard.read(path.parent).to_json().encode() == path.read_bytes()


def test_a_card_comes_back():
    assert ModelCard.from_json(CARD.to_json()) == CARD


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda card: card | {"surprise": 1}, "`$.surprise`"),
        (lambda card: card | {"format": 99}, "card format 99"),
        (lambda card: card | {"network": {"type": "Other"}}, "network type 'Other' is unknown"),
        (lambda card: card | {"network": {"type": []}}, "network type '[]' is unknown"),
        (lambda card: card | {"network": []}, "network type 'none' is unknown"),
        (lambda card: card["network"]["local"].update(widths=["4"]) or card, "local.widths[0]"),
        (lambda card: card["network"]["local"].update(depth=4) or card, "`$.network.local.depth`"),
        (lambda card: card["sampling"].update(size_xyz=[8, 8]) or card, "`$.sampling.size_xyz`"),
        (lambda card: card["sampling"].update(antialias="much") or card, "`$.sampling.antialias`"),
        (lambda card: card["training"].update(metrics={"dice": "x"}) or card, "training.metrics"),
        (lambda card: card["sampling"].pop("spacing_mm") and card, "field `spacing_mm`"),
    ],
)
def test_a_wrong_card_is_told_with_its_place(change, said):
    text = json.dumps(change(json.loads(CARD.to_json())))
    with pytest.raises(BundleError) as caught:
        ModelCard.from_json(text, "here/model.json")
    assert said in str(caught.value)
    assert "here/model.json" in str(caught.value)


@pytest.mark.parametrize("text", [b"", b"[]", b"[" * 100_000, b"\xff\xfe{}"])
def test_what_is_no_card(tmp_path, text):
    (tmp_path / "model.json").write_bytes(text)
    with pytest.raises(BundleError, match="payerseg model card"):
        ModelCard.read(tmp_path)


def test_joined_sources_come_apart_and_are_counted_once_per_item():
    both = Source(joined_sources(["A", "B"]), joined_sources(["CC0", "MIT"]), 3, "synthetic")
    again = Source(joined_sources(["A", "A"]), joined_sources(["CC0", "CC0"]), 2, "synthetic")
    plain = Source("A", "CC0", 5)
    assert single_sources([both, again, plain]) == (
        Source("A", "CC0", 5),
        Source("A", "CC0", 5, "synthetic"),
        Source("B", "MIT", 3, "synthetic"),
    )


def test_one_licence_may_stand_for_several_sources():
    (a, b) = single_sources([Source(joined_sources(["A", "B"]), "CC0", 1)])
    assert (a.licence, b.licence) == ("CC0", "CC0")
