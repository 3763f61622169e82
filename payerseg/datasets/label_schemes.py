"""Label numbers of other tools → VerSe numbers.

Numbers overlap between tools (28 is T13 in VerSe and the sacrum in MOOSE), so a scheme is always
named by the user and never guessed. Whatever a scheme does not list (ribs, discs, organs) becomes
background. The sacrum keeps VerSe's 26 and is no vertebra for the scores.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from payerseg.domain.landmarks import Landmark, Landmarks
from payerseg.domain.vertebra import COCCYX_LABEL, SACRUM_LABEL, Vertebra
from payerseg.errors import UsageError

CERVICAL = tuple(f"C{n}" for n in range(1, 8))
THORACIC = tuple(f"T{n}" for n in range(1, 13))
LUMBAR = tuple(f"L{n}" for n in range(1, 6))
PRESACRAL = CERVICAL + THORACIC + LUMBAR


@dataclass(frozen=True, slots=True)
class LabelScheme:
    """What the numbers of one tool mean.

    Attributes:
        name: as given to `--scheme`.
        to_verse: the tool's number → VerSe's number.
        note: what a reader of scores must know about the tool's masks.
    """

    name: str
    to_verse: Mapping[int, int]
    note: str = ""

    def convert(self, labels: np.ndarray) -> np.ndarray:
        """Return (z, y, x) uint8 VerSe labels of whole numbers; those outside the scheme become 0."""
        out = np.zeros(labels.shape, np.uint8)
        for theirs in np.unique(labels):
            verse = self.to_verse.get(int(theirs))
            if verse is not None:
                out[labels == theirs] = verse
        return out

    def unknown(self, labels: np.ndarray) -> tuple[int, ...]:
        """Return the non-zero numbers of a map that the scheme does not list, ascending."""
        found = {int(value) for value in np.unique(labels)} - {0}
        return tuple(sorted(found - set(self.to_verse)))


def _numbered(first: int, names: tuple[str, ...]) -> dict[int, int]:
    return {first + k: Vertebra[name].verse_label for k, name in enumerate(names)}


_VERSE = {
    label: label for label in (*(v.verse_label for v in Vertebra), SACRUM_LABEL, COCCYX_LABEL)
}
_UPWARDS = tuple(reversed(PRESACRAL))

SCHEMES: dict[str, LabelScheme] = {
    scheme.name: scheme
    for scheme in (
        LabelScheme("verse", _VERSE),
        LabelScheme(
            "totalsegmentator",
            # S1 is a part of the sacrum here; 25 is the rest of it.
            {25: SACRUM_LABEL, 26: SACRUM_LABEL} | _numbered(27, _UPWARDS),
            "TotalSegmentator v2, task total; no L6, no T13",
        ),
        LabelScheme(
            "totalsegmentator_v1",
            _numbered(18, _UPWARDS) | {92: SACRUM_LABEL},
            "TotalSegmentator v1, task total; no L6, no T13",
        ),
        LabelScheme(
            "vertebrae_pp",
            _numbered(1, PRESACRAL),
            "TotalSegmentator vertebrae_pp: bodies only, so Dice with whole vertebrae is low",
        ),
        LabelScheme(
            "moose",
            _numbered(1, PRESACRAL) | {25: Vertebra.L6.verse_label, 28: SACRUM_LABEL},
            "MOOSE: 26 and 27 are the hips; no T13",
        ),
        LabelScheme(
            "vista3d",
            _numbered(33, _UPWARDS)
            | {97: SACRUM_LABEL, 127: SACRUM_LABEL, 131: Vertebra.L6.verse_label},
            "VISTA3D: 127 is S1; no T13",
        ),
        LabelScheme(
            "totalspineseg",
            _numbered(11, CERVICAL)
            | _numbered(21, THORACIC)
            | _numbered(41, (*LUMBAR, "L6"))
            | {50: SACRUM_LABEL},
            "TotalSpineSeg: 47 (L7) has no VerSe number and is left out; no T13",
        ),
    )
}


def scheme_named(name: str) -> LabelScheme:
    """Return a scheme by name.

    Raises:
        UsageError: no such scheme.
    """
    if name not in SCHEMES:
        msg = f"label scheme {name!r} is not known; expected one of {', '.join(SCHEMES)}"
        raise UsageError(msg)
    return SCHEMES[name]


C1Convention = Literal["dens", "verse2020"]
"""Where C1's point is. C1 has no body: ours is the centre of the dens at the height of C1's anterior arch, on
average 22.4 mm above C2's centre (as the VerSe 2019 lists have it). VerSe 2020 lists put it 17.1 mm above."""
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
