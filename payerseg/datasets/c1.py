"""Where C1's point is: one definition in the house, others converted.

C1 has no body. Ours is the centre of the dens at the height of C1's anterior arch, on average
22.4 mm above C2's centre (as the VerSe 2019 lists have it). VerSe 2020 lists put it 17.1 mm above.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from payerseg.domain.landmarks import Landmark, Landmarks
from payerseg.domain.vertebra import Vertebra

C1Convention = Literal["dens", "verse2020"]
DENS_TO_C2_MM = 22.4
VERSE2020_TO_C2_MM = 17.1
"""Means over 13 and 26 training scans of VerSe 2019 and 2020."""


def to_dens_point(landmarks: Landmarks, convention: C1Convention) -> Landmarks:
    """Return landmarks whose C1 follows our definition.

    VerSe 2020's C1 is moved away from C2 along the line through both by 22.4 / 17.1. (The mean
    directions of the two releases differ by as much as those of C2-C3, that is by posture.)
    Without C2 the point cannot be moved and is left out; callers must mask it.
    """
    if convention == "dens" or Vertebra.C1 not in landmarks:
        return landmarks
    others = [mark for vertebra, mark in landmarks.items() if vertebra is not Vertebra.C1]
    if Vertebra.C2 not in landmarks:
        return Landmarks(others)
    c2 = np.asarray(landmarks[Vertebra.C2].position_mm)
    gap = np.asarray(landmarks[Vertebra.C1].position_mm) - c2
    moved = c2 + gap * (DENS_TO_C2_MM / VERSE2020_TO_C2_MM)
    return Landmarks([*others, Landmark(Vertebra.C1, tuple(moved))])
