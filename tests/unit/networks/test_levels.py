import keras
import numpy as np
import pytest

from payerseg.config.model_card import LevelNetSpec
from payerseg.errors import ConfigError
from payerseg.networks.build import build_network
from payerseg.networks.levels import FeaturesAt

SMALL = LevelNetSpec(shape_zyx=(32, 24, 24), widths=(4, 4, 4, 4), dense=(8, 8), outputs=5)


def test_features_are_read_where_they_lie():
    """A map that is linear in its voxels' centres gives a place's own coordinates back."""
    stride, shape = 2, (6, 5, 4)
    features = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), axis=-1)
    centres = (features[None].astype("float32") + 0.5) * stride - 0.5
    places = np.array([[[3.25, 4.0, 2.5], [6.0, 2.5, 3.75]]], "float32")
    read = FeaturesAt(stride, ((0, 0, 0), (0, 2, 0)))(centres, places)
    read = keras.ops.convert_to_numpy(read)
    np.testing.assert_allclose(read[0, :, :3], places[0], atol=1e-5)
    np.testing.assert_allclose(read[0, :, 3:], places[0] + [0, 2, 0], atol=1e-5)


def test_places_outside_read_the_border():
    features = np.arange(8.0, dtype="float32").reshape(1, 2, 2, 2, 1)
    read = FeaturesAt(1, ((0, 0, 0),))(features, np.array([[[-5.0, 9.0, 0.0]]], "float32"))
    assert float(keras.ops.convert_to_numpy(read)[0, 0, 0]) == 2.0


def test_an_answer_depends_on_its_own_place_alone():
    network = build_network(SMALL, seed=3)
    rng = np.random.default_rng(0)
    view = rng.normal(size=(1, *SMALL.shape_zyx, 1)).astype("float32")
    places = rng.uniform(4, 20, (1, 6, 3)).astype("float32")
    together = keras.ops.convert_to_numpy(network([view, places]))
    alone = keras.ops.convert_to_numpy(network([view, places[:, 2:3]]))
    assert together.shape == (1, 6, 5)
    np.testing.assert_allclose(together[:, 2], alone[:, 0], atol=1e-5)
    assert np.ptp(together[0], axis=0).max() > 1e-4


def test_a_view_that_cannot_be_halved_is_refused():
    with pytest.raises(ConfigError, match="multiples of 8"):
        build_network(LevelNetSpec(shape_zyx=(30, 24, 24)))
