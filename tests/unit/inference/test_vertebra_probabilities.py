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
from payerseg.inference.tiles import blend_tiles
from payerseg.inference.vertebra_probabilities import (
    blend_in_slabs,
    plan_patches,
    vertebra_probabilities,
)
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


SPEC = UNetSpec((4, 6), inputs=2, outputs=3, head_activation="softmax")
REGION = Grid((40, 16, 22), (1.0, 1.0, 1.0), (-20.0, 5.0, 300.5))


@pytest.fixture(scope="module")
def predictor():
    card = ModelCard("vertebrae_segmentation", SPEC, SamplingSpec(1.0), "label_probability")
    return Predictor(ModelBundle(card, network_arrays(build_network(SPEC)), "memory"), "float32")


def patches_of(frames, channels=3, seed=0):
    rng = np.random.default_rng(seed)
    return [Volume(rng.random((*f.shape, channels)).astype("float32"), f) for f in frames]


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.6])
@pytest.mark.parametrize("patch", [(16, 16, 16), (12, 8, 22), (40, 16, 22), (128, 128, 128)])
def test_slabs_are_the_blend_of_all_patches(predictor, patch, overlap):
    frames = plan_patches(predictor, REGION, patch, overlap)
    patches = patches_of(frames)
    slabs = list(blend_in_slabs(iter(patches), REGION))
    starts = [
        tuple(np.rint(REGION.map_world_to_indices([f.origin_mm])[0]).astype(int)) for f in frames
    ]
    tiles = ((start, patch.array) for start, patch in zip(starts, patches, strict=True))
    expected = blend_tiles(tiles, REGION.shape, 3)
    np.testing.assert_allclose(np.concatenate([s.array for s in slabs]), expected, atol=1e-5)
    assert sum(slab.grid.shape[0] for slab in slabs) == REGION.shape[0]
    for first, slab in zip(np.cumsum([0, *(s.grid.shape[0] for s in slabs)]), slabs, strict=False):
        assert slab.grid == REGION.window((int(first), 0, 0), slab.array.shape[:3])


def test_a_slab_is_handed_out_before_the_later_patches_are_made(predictor):
    frames = plan_patches(predictor, REGION, (16, 16, 22), 0.25)
    made = []

    def lazily():
        for patch in patches_of(frames):
            made.append(patch)
            yield patch

    next(blend_in_slabs(lazily(), REGION))
    assert len(made) == 2 < len(frames)


def test_patches_shrink_to_the_memory_bound(predictor):
    bound = Predictor.__new__(Predictor)
    bound.multiple, bound.max_voxels = predictor.multiple, 32 * 16 * 16
    frames = plan_patches(bound, Grid((64, 64, 64), (1.0,) * 3), (48, 48, 48))
    assert {frame.shape for frame in frames} == {(32, 32, 32)}, "32 voxels a side are the least"
