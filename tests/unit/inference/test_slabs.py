"""Slabs: together they are what blending everything at once would give, piece by piece."""

import numpy as np
import pytest

from payerseg.config.model_card import ModelCard, SamplingSpec, UNetSpec
from payerseg.domain.grid import Grid
from payerseg.domain.volume import Volume
from payerseg.inference.predictor import Predictor
from payerseg.inference.slabs import blend_in_slabs, plan_patches
from payerseg.inference.tiles import blend_tiles
from payerseg.networks.build import build_network
from payerseg.networks.bundle import ModelBundle, network_arrays

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
