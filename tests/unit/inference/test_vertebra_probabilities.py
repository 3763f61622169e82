"""One probability per landmark, whichever way the network answers."""

import numpy as np
import pytest

from payerseg.config.model_card import ModelCard, SamplingSpec, UNetSpec
from payerseg.config.schema import VertebraeSegmentationConfig
from payerseg.domain.grid import Grid
from payerseg.domain.landmarks import Landmark, Landmarks
from payerseg.domain.vertebra import Vertebra as V
from payerseg.domain.volume import Volume
from payerseg.inference.predictor import Predictor
from payerseg.inference.vertebra_probabilities import vertebra_probabilities
from payerseg.networks.build import build_network
from payerseg.networks.bundle import ModelBundle, network_arrays

SAMPLING = SamplingSpec(4.0, multiple=2, size_xyz=(8, 8, 8))
CONFIG = VertebraeSegmentationConfig()
MARKS = Landmarks([Landmark(V.T11, (20.0, 20.0, 50.0)), Landmark(V.T12, (20.0, 20.0, 24.0))])
LEVELS = tuple(range(1, 26))
CARDS = {
    "one": ModelCard("vertebrae_segmentation", UNetSpec((2, 3), inputs=2), SAMPLING, "logit"),
    "all": ModelCard(
        "vertebrae_segmentation",
        UNetSpec((2, 3), inputs=26, outputs=26, head_activation="softmax"),
        SAMPLING,
        "label_probability",
        channels=(0, *LEVELS),
    ),
}


@pytest.mark.parametrize("kind", ["one", "all"])
def test_every_landmark_gets_a_probability_and_is_told_of(kind: str) -> None:
    card, heard = CARDS[kind], []
    bundle = ModelBundle(card, network_arrays(build_network(card.network, seed=3)), "memory")
    hu = np.random.default_rng(0).normal(0, 200, (40, 20, 20)).astype(np.float32)
    ct = Volume(hu, Grid(hu.shape, (2.0, 2.0, 2.0), (0.0, 0.0, 0.0)))

    def told(predicted, total):
        for item in predicted:
            heard.append(total)
            yield item

    predictor = Predictor(bundle, "float32")
    found = list(vertebra_probabilities(predictor, card, CONFIG, ct, MARKS, told))
    assert [item.vertebra for item in found] == [V.T11, V.T12]
    for item in found:
        assert 0 <= item.probability.array.min() < item.probability.array.max() <= 1
    assert len(heard) == heard[0]
    assert heard[0] == len(MARKS) or kind == "all"
