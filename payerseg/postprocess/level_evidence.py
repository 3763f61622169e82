"""What the level network says of places, as nats for each name.

The names of neighbouring vertebrae err together, so all levels of a chain count as few observations
however long it is; what a network sees at one vertebra alone counts by itself: a rib, the dens, the
sacrum. Ribs anchor a thoracic chain as the sacrum anchors a lumbar one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit, softmax

from payerseg.domain.grid import Grid
from payerseg.domain.levels import LEVELS, RIBBED, S1_RANK, LevelAnswer, Rib
from payerseg.domain.vertebra import Vertebra

Array = np.ndarray
ANCHORS = (Vertebra.C1.rank, Vertebra.C2.rank, S1_RANK)
"""Levels that look like no other: the ring, the dens, the sacrum."""
FLOOR = 0.003
"""No single answer of a network is surer than this."""
TRANSITIONAL = 0.07
"""How often a last lumbar vertebra looks like the sacrum's first, or that like it: transitional ones are
seen in 4-36 % of people (Konin and Walz, AJNR 2010), complete ones in a few."""
RIB_ROOM_MM = 34.0
"""So far to the side of a centre must be inside the scan for a rib to be seen or missed."""
_CARRIES = {Vertebra.T12: 0.96, Vertebra.T13: 0.93, Vertebra.L1: 0.025, Vertebra.C7: 0.015}
_CARRIES_ELSE = {True: 0.99, False: 0.004}
"""How often a vertebra carries a rib or a stump of one."""
SAME_LOOK = ((Vertebra.L5, Vertebra.L6), (Vertebra.T12, Vertebra.T13))
"""Rare levels look like a usual one: ribs, the sacrum and counting tell them apart, never the look."""


@dataclass(frozen=True, slots=True)
class LevelEvidence:
    """Probabilities of n places.

    Attributes:
        level: (n, 27) of `domain.levels.LEVELS`.
        ribs: (n, 2) that there is a rib or stump, left and right; NaN where the scan shows no side.
        stumps: (n, 2) that it is a stump, if there is one.
        sacrum: (n,) that the sacrum follows just below.
        whole: (n,) that nothing cuts the vertebra.
        vertebra: (n,) that the place is a vertebra's centre (or S1).
    """

    level: Array
    ribs: Array
    stumps: Array
    sacrum: Array
    whole: Array
    vertebra: Array

    @classmethod
    def of_logits(
        cls, logits: Array, positions_mm: Array, field: Grid | None = None
    ) -> LevelEvidence:
        """Read the network's answer.

        Args:
            logits: (n, `domain.levels.N_OUTPUTS`).
            positions_mm: (n, 3) LPS of the places.
            field: the scan's grid; a side that it does not reach shows no rib.
        """
        answer = LevelAnswer(np.asarray(logits, float))
        sides = np.stack([softmax(answer.left_rib, 1), softmax(answer.right_rib, 1)], axis=1)
        ribs = 1 - sides[..., Rib.NONE]
        if field is not None and len(positions_mm):
            for column, sign in enumerate((1.0, -1.0)):
                beside = positions_mm + np.array([sign * RIB_ROOM_MM, 8.0, 0.0])
                ribs[~field.contains(beside), column] = np.nan
        stumps = sides[..., Rib.STUMP] / np.maximum(
            sides[..., Rib.STUMP] + sides[..., Rib.RIB], 1e-9
        )
        return cls(
            softmax(answer.level, axis=1), ribs, stumps, expit(answer.sacrum),
            expit(answer.whole), expit(answer.vertebra),
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self.level)

    def level_nats(self) -> Array:
        """Return (n, 27) log probabilities of the names, rare levels as likely as those they look like."""
        level = self.level.copy()
        for usual, rare in SAME_LOOK:
            both = level[:, usual.rank] + level[:, rare.rank]
            level[:, usual.rank] = level[:, rare.rank] = both
        return np.log(level * (1 - FLOOR) + FLOOR / len(LEVELS))

    def rib_nats(self) -> Array:
        """Return (n, 27): how well the ribs that are seen fit a name, both sides together as one."""
        carries = np.array(
            [_CARRIES.get(v, _CARRIES_ELSE[v.rank in RIBBED]) for v in Vertebra]
            + [_CARRIES_ELSE[False]]
        )
        seen = np.clip(self.ribs, FLOOR, 1 - FLOOR)[..., None]
        nats = np.log(seen * carries + (1 - seen) * (1 - carries))
        known = np.isfinite(nats)
        count = np.maximum(known.sum(axis=1), 1)
        return np.where(known, nats, 0.0).sum(axis=1) / count

    def anchor_nats(self) -> Array:
        """Return (n, 27): the dens, the ring and the sacrum are named as such, and nothing else is."""
        nats = np.zeros((len(self), len(LEVELS)))
        for rank in ANCHORS:
            most = TRANSITIONAL if rank == S1_RANK else FLOOR
            p = np.clip(self.level[:, rank], FLOOR, 1 - most)
            nats += np.log(1 - p)[:, None]
            nats[:, rank] += np.log(p) - np.log(1 - p)
        return nats

    def vertebra_nats(self) -> Array:
        """Return (n,) log odds that a place is a vertebra."""
        p = np.clip(self.vertebra, 0.02, 0.98)
        return np.log(p / (1 - p))

    def sacrum_nats(self) -> tuple[Array, Array]:
        """Return (n,) log probabilities that the sacrum follows, and that it does not."""
        p = np.clip(self.sacrum, TRANSITIONAL / 2, 1 - TRANSITIONAL / 2)
        return np.log(p), np.log(1 - p)
