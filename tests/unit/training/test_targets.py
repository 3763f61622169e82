import numpy as np

from payerseg.training.targets import reference_spine_heatmap


def test_reference_targets_of_nothing_are_zero_not_nan() -> None:
    assert not reference_spine_heatmap(np.zeros((0, 3)), (5, 6, 7)).any()
