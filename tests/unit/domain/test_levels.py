import numpy as np

from payerseg.domain.levels import LEVELS, N_OUTPUTS, RIBBED, S1_RANK, LevelAnswer
from payerseg.domain.vertebra import Vertebra


def test_levels_are_the_vertebrae_and_the_sacrum():
    assert [LEVELS[v.rank] for v in Vertebra] == [v.name for v in Vertebra]
    assert LEVELS[S1_RANK] == "S1"
    assert {LEVELS[rank] for rank in RIBBED} == {f"T{k}" for k in range(1, 14)}


def test_every_column_belongs_to_one_answer():
    logits = np.arange(2 * N_OUTPUTS, dtype=float).reshape(2, N_OUTPUTS)
    answer = LevelAnswer(logits)
    parts = [
        answer.level, answer.left_rib, answer.right_rib,
        answer.sacrum[:, None], answer.whole[:, None], answer.vertebra[:, None],
    ]  # fmt: skip
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), logits)
