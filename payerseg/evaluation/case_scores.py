"""One case, prediction against truth: every score that the tables are made of."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from payerseg.domain.grid import ROUNDED_VOXELS, Grid
from payerseg.domain.landmarks import Landmarks
from payerseg.domain.vertebra import Vertebra
from payerseg.domain.volume import Volume
from payerseg.errors import GridMismatch
from payerseg.evaluation.landmark_scores import ScanLandmarkScores, score_landmarks
from payerseg.evaluation.mask_scores import MaskScores, score_masks
from payerseg.evaluation.predictions import Prediction
from payerseg.evaluation.truth import Truth
from payerseg.imaging.resample import resample

NO_RESULT = "no_result"


@dataclass(frozen=True, slots=True)
class ScoringRules:
    """What is scored and how strictly.

    Attributes:
        masks: score label maps where both sides have one.
        surfaces: also their surfaces; much slower.
        resample: bring a prediction from another grid onto the truth's instead of refusing it.
    """

    masks: bool = True
    surfaces: bool = True
    resample: bool = False


@dataclass(frozen=True, slots=True)
class CaseScores:
    """All scores of one case.

    Attributes:
        case_id: as the truth names it.
        group: for tables that sum up by group; "" without groups.
        status: of the results; "no_result" where they do not hold the case, "unreadable" where what
            they hold cannot be used.
        needs_review: whether the method doubts itself, or failed aloud; None where it never says.
        landmarks: outcomes of its vertebrae.
        masks: one per true vertebra with a mask; empty without masks.
        n_in_box: true centres inside stage 1's box; None without one.
        slice_mm: largest spacing of the scan; None where it is not known.
        in_set: whether one of the stated labellings is right; None where none are stated.
        probability: stated probability that all names are right; None where none is.
        refused: why its result was refused, so that every vertebra is missed; "" where it was not.
        notes: what was tolerated, one sentence each.
    """

    case_id: str
    group: str
    status: str
    needs_review: bool | None
    landmarks: ScanLandmarkScores
    masks: tuple[MaskScores, ...] = ()
    n_in_box: int | None = None
    slice_mm: float | None = None
    in_set: bool | None = None
    probability: float | None = None
    refused: str = ""
    notes: tuple[str, ...] = ()

    @property
    def silently_wrong(self) -> bool:
        """Whether something is wrong and the method does not say so."""
        return not self.landmarks.all_right and not self.needs_review


def score_case(
    prediction: Prediction, truth: Truth, rules: ScoringRules, group: str = ""
) -> CaseScores:
    """Score one case.

    Raises:
        GridMismatch: the label maps lie on different grids and resampling was not asked for.
    """
    grid = prediction.scan_grid or truth.scan_grid or _grid_of(prediction.labels)
    landmarks = score_landmarks(
        prediction.landmarks, truth.landmarks, unmarked=truth.unmarked, scan_grid=grid
    )
    masks: list[MaskScores] = []
    notes: tuple[str, ...] = ()
    # Landmarks without a label map: stage 3 was not asked for. Neither: the case failed.
    segmented = prediction.labels is not None or not prediction.landmarks
    if rules.masks and truth.labels is not None and segmented:
        predicted, notes = _on_truth_grid(prediction, truth.labels, resampled=rules.resample)
        if not truth.labels.array.any():
            notes += ("its true label map is empty: scored as a scan without vertebrae",)
        labels = _scored_labels(truth)
        masks = score_masks(predicted, truth.labels, labels, surfaces=rules.surfaces)
    in_set = None
    if prediction.level_set:
        stated = first_right_labelling(prediction, truth, grid)
        in_set = landmarks.all_right or stated is not None
    in_box = None
    if prediction.box is not None and truth.landmarks:
        in_box = int(prediction.box.contains(truth.landmarks.positions_mm).sum())
    return CaseScores(
        case_id=truth.case_id,
        group=group,
        status=prediction.status or "ok",
        needs_review=prediction.needs_review or bool(prediction.refused),
        landmarks=landmarks,
        masks=tuple(masks),
        n_in_box=in_box,
        slice_mm=max(grid.spacing_mm) if grid else None,
        in_set=in_set,
        probability=prediction.level_probability,
        refused=prediction.refused,
        notes=notes,
    )


def score_absent(truth: Truth, rules: ScoringRules, group: str = "") -> CaseScores:
    """Score a case that the results do not hold: every vertebra is missed."""
    nothing = Prediction(truth.case_id, Landmarks(), status=NO_RESULT)
    return score_case(nothing, truth, rules, group)


def first_right_labelling(
    prediction: Prediction, truth: Truth, grid: Grid | None = None
) -> int | None:
    """Return which stated labelling is right: the vertebrae found, renamed by it, are all right.

    A labelling of more or fewer vertebrae than were found cannot be held against the truth and is not.
    """
    marks = list(prediction.landmarks.values())
    for number, names in enumerate(prediction.level_set):
        if len(names) == len(marks):
            renamed = Landmarks(
                replace(mark, vertebra=Vertebra[name])
                for mark, name in zip(marks, names, strict=True)
            )
            scores = score_landmarks(
                renamed, truth.landmarks, unmarked=truth.unmarked, scan_grid=grid
            )
            if scores.all_right:
                return number
    return None


def _grid_of(labels: Volume | None) -> Grid | None:
    return labels.grid if labels is not None else None


def _scored_labels(truth: Truth) -> tuple[int, ...]:
    """Return the labels of vertebrae that the truth marks: slivers at the scan's faces are not."""
    if truth.labels is None:
        return ()
    present = set(np.unique(truth.labels.array).tolist())
    return tuple(v.verse_label for v in truth.landmarks if v.verse_label in present)


def _on_truth_grid(
    prediction: Prediction, truth: Volume, *, resampled: bool
) -> tuple[Volume, tuple[str, ...]]:
    """Return the predicted labels on the truth's grid, empty where there are none, and remarks."""
    labels = prediction.labels
    if labels is None:
        return truth.with_array(np.zeros(truth.array.shape, np.uint8)), ()
    if labels.grid.same_space_as(truth.grid):
        return labels, ()
    apart = truth.grid.voxels_apart(labels.grid)
    if apart <= ROUNDED_VOXELS:
        note = f"its grid lies up to {apart:.2g} voxels off the truth's, taken as rounded"
        return truth.with_array(labels.array), (note,)
    if not resampled:
        msg = (
            f"{prediction.case_id}: the label map's grid {labels.grid} is not the truth's "
            f"{truth.grid}; --resample brings it there by nearest neighbour"
        )
        raise GridMismatch(msg)
    return resample(labels, onto=truth.grid, interpolation="nearest", outside=0), ()
