"""What the level network says of one place: the columns of its answer, in one table.

A place is a point that the finder took for a vertebra's centre. The network is asked for its level,
whether it carries a rib to the left and to the right, whether the sacrum follows below, whether the view
shows it whole, and whether it is a vertebra at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from payerseg.domain.vertebra import Vertebra

LEVELS = (*(vertebra.name for vertebra in Vertebra), "S1")
"""Level classes head to foot: the ranks of `Vertebra`, then the first sacral one."""
S1_RANK = len(LEVELS) - 1

RIBBED = tuple(rank for rank, name in enumerate(LEVELS) if name.startswith("T"))
"""Ranks that carry ribs."""


class Rib(IntEnum):
    """What is seen of a rib on one side."""

    NONE = 0
    STUMP = 1
    RIB = 2


UNKNOWN = -1
"""A fact that a target row does not tell."""
STUMP_MM = 40.0
"""A rib shorter than this is a stump."""
N_TARGETS = 6
"""Columns of a target row: rank, left rib, right rib, sacrum follows, whole, vertebra; or `UNKNOWN`."""

_LEVEL = slice(0, len(LEVELS))
_LEFT = slice(_LEVEL.stop, _LEVEL.stop + 3)
_RIGHT = slice(_LEFT.stop, _LEFT.stop + 3)
_SACRUM, _WHOLE, _VERTEBRA = range(_RIGHT.stop, _RIGHT.stop + 3)
N_OUTPUTS = _VERTEBRA + 1


@dataclass(frozen=True, slots=True)
class LevelAnswer:
    """Logits of the level network for n places.

    Attributes:
        logits: (..., n, `N_OUTPUTS`), numpy or a tensor.
    """

    logits: np.ndarray

    @property
    def level(self) -> np.ndarray:
        """(..., n, 27) logits of `LEVELS`."""
        return self.logits[..., _LEVEL]

    @property
    def left_rib(self) -> np.ndarray:
        """(..., n, 3) logits of `Rib` on the patient's left."""
        return self.logits[..., _LEFT]

    @property
    def right_rib(self) -> np.ndarray:
        """(..., n, 3) logits of `Rib` on the patient's right."""
        return self.logits[..., _RIGHT]

    @property
    def sacrum(self) -> np.ndarray:
        """(..., n) logit: the sacrum follows just below."""
        return self.logits[..., _SACRUM]

    @property
    def whole(self) -> np.ndarray:
        """(..., n) logit: no face of the view cuts the vertebra."""
        return self.logits[..., _WHOLE]

    @property
    def vertebra(self) -> np.ndarray:
        """(..., n) logit: the place is the centre of a vertebra (or of S1)."""
        return self.logits[..., _VERTEBRA]
