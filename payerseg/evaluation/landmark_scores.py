"""Whether vertebrae were found and named: identification, distance, misses, extras, level shifts.

Definitions of the VerSe challenge (Sekuboyina et al., "VerSe: a vertebrae labelling and
segmentation benchmark", Med. Image Anal. 73, 2021): a vertebra is identified when its predicted
centre is at most 20 mm from the true one and no other true centre (of a vertebra that both name)
is nearer. The rate divides by all true vertebrae. Distances of vertebrae that nobody predicted do
not exist, so misses and extras always stand beside the mean distance.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

import numpy as np

from payerseg.domain.grid import Grid
from payerseg.domain.landmarks import Landmarks
from payerseg.domain.vertebra import Vertebra

IDENTIFICATION_MM = 20.0
"""VerSe's radius of identification."""
BORDER_MM = 20.0
"""An extra vertebra this near to a face of the scan may be one that the truth left out as cut."""
MIN_SHIFTED_RUN = 2
"""So many neighbours moved by the same number of levels are a shift; one alone is a mix-up."""

Outcome = Literal["identified", "far", "mixed_up", "missed", "extra", "tolerated_extra"]


@dataclass(frozen=True, slots=True)
class VertebraOutcome:
    """What became of one vertebra of one scan.

    Attributes:
        vertebra: the true one, or the invented one for the two extra outcomes.
        outcome: "identified"; "far": predicted beyond 20 mm; "mixed_up": within 20 mm, yet another
            true centre is nearer; "missed": not predicted; "extra": predicted, not in the truth;
            "tolerated_extra": the same, but the truth says it is visible and unmarked, or it
            continues the row of true vertebrae right at a face of the scan.
        distance_mm: from the true to the predicted centre of the same name; None where one lacks.
        nearest: the true vertebra nearest to the predicted centre; None without one within 20 mm.
    """

    vertebra: Vertebra
    outcome: Outcome
    distance_mm: float | None = None
    nearest: Vertebra | None = None


@dataclass(frozen=True, slots=True)
class LevelShift:
    """A run of neighbours that all carry the name of a vertebra `levels` further down.

    Attributes:
        levels: positive where names are too far towards the foot; 0 where nothing is shifted.
        n_vertebrae: length of the run.
        first: the true vertebra at its head end.
        last: the true vertebra at its foot end.
    """

    levels: int = 0
    n_vertebrae: int = 0
    first: Vertebra | None = None
    last: Vertebra | None = None


NO_SHIFT = LevelShift()


@dataclass(frozen=True, slots=True)
class ScanLandmarkScores:
    """Outcomes of one scan.

    Attributes:
        outcomes: one per true vertebra head to foot, then the extras.
        shift: the longest shifted run.
    """

    outcomes: tuple[VertebraOutcome, ...]
    shift: LevelShift

    def count(self, *wanted: Outcome) -> int:
        """Count the vertebrae with one of these outcomes."""
        return sum(one.outcome in wanted for one in self.outcomes)

    @property
    def n_true(self) -> int:
        """True vertebrae."""
        return len(self.outcomes) - self.count("extra", "tolerated_extra")

    @property
    def all_right(self) -> bool:
        """Whether every true vertebra is identified and nothing is invented.

        A scan without vertebrae is all right when none is predicted.
        """
        return self.count("identified") == self.n_true and self.count("extra") == 0

    @property
    def n_strictly_identified(self) -> int:
        """Identified by the text of the challenge: no true centre of any name is nearer.

        The challenge's code, and so `identified`, compares with vertebrae that both sides name.
        """
        return sum(o.outcome == "identified" and o.nearest == o.vertebra for o in self.outcomes)

    @property
    def strictly_all_right(self) -> bool:
        """Whether all are strictly identified and nothing is named beside them, not even at a face."""
        return self.n_strictly_identified == len(self.outcomes)

    @property
    def distances_mm(self) -> np.ndarray:
        """(n,) mm of the identified ones."""
        found = [one.distance_mm for one in self.outcomes if one.outcome == "identified"]
        return np.array(found, float)


def score_landmarks(
    predicted: Landmarks,
    truth: Landmarks,
    *,
    unmarked: Collection[Vertebra] = (),
    scan_grid: Grid | None = None,
) -> ScanLandmarkScores:
    """Compare the landmarks of one scan.

    Args:
        predicted: what is judged; may be empty.
        truth: what is true; may be empty (a scan without a spine).
        unmarked: visible vertebrae that the truth says it left out; finding them is no error.
        scan_grid: the scan's voxels, to tell extras at its faces; None tolerates none of them.
    """
    nearest = _nearest_true(predicted, truth)
    among_common = _identified(predicted, truth)
    outcomes = []
    for vertebra, mark in truth.items():
        if vertebra not in predicted:
            outcomes.append(VertebraOutcome(vertebra, "missed"))
            continue
        gap = np.subtract(predicted[vertebra].position_mm, mark.position_mm)
        distance = float(np.linalg.norm(gap))
        if vertebra in among_common:
            outcome: Outcome = "identified"
        else:
            outcome = "far" if distance > IDENTIFICATION_MM else "mixed_up"
        outcomes.append(VertebraOutcome(vertebra, outcome, distance, nearest.get(vertebra)))
    for vertebra in predicted:
        if vertebra in truth:
            continue
        near_face = scan_grid is not None and _continues_at_face(
            vertebra, predicted, truth, scan_grid
        )
        tolerated = vertebra in unmarked or near_face
        name: Outcome = "tolerated_extra" if tolerated else "extra"
        outcomes.append(VertebraOutcome(vertebra, name, None, nearest.get(vertebra)))
    return ScanLandmarkScores(tuple(outcomes), find_level_shift(nearest))


def find_level_shift(nearest: dict[Vertebra, Vertebra]) -> LevelShift:
    """Find the longest run of neighbours named the same number of levels too low or too high.

    Args:
        nearest: predicted name → the true vertebra it lies at.

    Returns:
        The run with the most vertebrae; `NO_SHIFT` without one of at least two. T13 has no fixed
        place in the count of levels, so it neither joins nor ends a run.
    """
    places = {
        true: _place(named) - _place(true)
        for named, true in nearest.items()
        if Vertebra.T13 not in (named, true)
    }
    best = NO_SHIFT
    run: list[Vertebra] = []
    for vertebra in sorted(places):
        if run and places[vertebra] != places[run[-1]]:
            run = []
        run.append(vertebra)
        levels = places[vertebra]
        if levels and len(run) >= max(MIN_SHIFTED_RUN, best.n_vertebrae + 1):
            best = LevelShift(levels, len(run), run[0], run[-1])
    return best


def _place(vertebra: Vertebra) -> int:
    """Return the place from head to foot in a spine without T13."""
    return vertebra.rank - (vertebra.rank > Vertebra.T13.rank)


def _distances_mm(predicted: Landmarks, truth: Landmarks) -> np.ndarray:
    """(n predicted, n true) mm."""
    gap = predicted.positions_mm[:, None] - truth.positions_mm[None]
    return np.linalg.norm(gap, axis=2)


def _nearest_true(predicted: Landmarks, truth: Landmarks) -> dict[Vertebra, Vertebra]:
    """Map each prediction to the nearest true vertebra of any name, if one is within 20 mm."""
    if not predicted or not truth:
        return {}
    distances, true = _distances_mm(predicted, truth), list(truth)
    best = distances.argmin(axis=1)
    return {
        vertebra: true[k]
        for row, (vertebra, k) in enumerate(zip(predicted, best, strict=True))
        if distances[row, k] <= IDENTIFICATION_MM
    }


def _identified(predicted: Landmarks, truth: Landmarks) -> set[Vertebra]:
    """Return the vertebrae that VerSe's rule, applied to the common names, calls identified."""
    common_true = Landmarks(mark for v, mark in truth.items() if v in predicted)
    common = Landmarks(mark for v, mark in predicted.items() if v in truth)
    return {own for own, found in _nearest_true(common, common_true).items() if own == found}


def _continues_at_face(
    vertebra: Vertebra, predicted: Landmarks, truth: Landmarks, grid: Grid
) -> bool:
    """Tell whether an extra lies beyond an end of the true row and near a face of the scan."""
    ranks = [v.rank for v in truth]
    if not ranks or min(ranks) < vertebra.rank < max(ranks):
        return False
    inside = grid.contains([predicted[vertebra].position_mm], margin_mm=BORDER_MM)
    return not bool(inside[0])
