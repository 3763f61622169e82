"""One training case, whatever the layout it came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np

from payerseg.domain.grid import Grid
from payerseg.domain.landmarks import Landmark, Landmarks, Point
from payerseg.domain.levels import Rib
from payerseg.domain.vertebra import Vertebra
from payerseg.domain.volume import Volume
from payerseg.imaging.body_centers import VertebraBody, locate_bodies

Split = Literal["train", "val", "test", ""]
LandmarkFormat = Literal["lps_json", "csv", "verse"]

_BEYOND_THE_END = {Vertebra.T13: Vertebra.L1, Vertebra.L5: None, Vertebra.L6: None}
"""Which level an unmarked neighbour below may be; below L5 and L6 comes the sacrum, no channel."""


@dataclass(frozen=True, slots=True)
class LevelFacts:
    """What is told of a spine beside its vertebrae's centres.

    Attributes:
        ribs: left and right of a vertebra; None on a side = not told, or not in view.
        sacrum_mm: centre of S1, LPS; None = not marked.
    """

    ribs: Mapping[Vertebra, tuple[Rib | None, Rib | None]] = field(default_factory=dict)
    sacrum_mm: Point | None = None


@dataclass(frozen=True, slots=True)
class CaseFiles:
    """Where one case's files lie; nothing is opened yet.

    Attributes:
        case_id: unique in the data set.
        patient_id: cases of one patient share it; they never part between train and val.
        image: the CT.
        landmark_file: vertebra positions, None where there are none.
        landmark_format: how to read them.
        labels: vertebra masks (VerSe values), None where there are none.
        split: as the data set says; "" where it does not.
        source, licence: to be named by the model card.
        partial: visible but unmarked vertebrae; None = the data set does not say.
        facts: ribs and sacrum, where another file than the landmark file tells them.
        note: free text of the data set.
    """

    case_id: str
    patient_id: str
    image: Path
    landmark_file: Path | None = None
    landmark_format: LandmarkFormat = "csv"
    labels: Path | None = None
    split: Split = ""
    source: str = ""
    licence: str = ""
    partial: tuple[Vertebra, ...] | None = None
    note: str = ""
    facts: LevelFacts | None = None


@dataclass(frozen=True, slots=True)
class Dataset:
    """The cases of one folder.

    Attributes:
        root: the folder.
        layout: "catalog", "simple" or "verse".
        cases: sorted by case_id.
    """

    root: Path
    layout: str
    cases: tuple[CaseFiles, ...] = ()


@dataclass(frozen=True, slots=True)
class TrainingCase:
    """One case, its marks read.

    Attributes:
        case_id, patient_id, image, labels, split, source, licence: as in `CaseFiles`.
        landmarks: centres in LPS mm of the image; None = positions are not known (they may be
            derived from `labels`).
        partial: vertebrae that are (or may be) visible without a mark: their loss is masked.
        facts: ribs and sacrum.
    """

    case_id: str
    patient_id: str
    image: Path
    landmarks: Landmarks | None = None
    labels: Path | None = None
    partial: frozenset[Vertebra] = field(default_factory=frozenset)
    split: Split = ""
    source: str = ""
    licence: str = ""
    facts: LevelFacts = field(default_factory=LevelFacts)

    def with_landmarks(
        self, landmarks: Landmarks, partial: frozenset[Vertebra] | None = None
    ) -> TrainingCase:
        """Return the case with other landmarks (and partial vertebrae, where given)."""
        return replace(
            self, landmarks=landmarks, partial=self.partial if partial is None else partial
        )


def possible_neighbours(landmarks: Landmarks) -> frozenset[Vertebra]:
    """Return the levels that may be visible, cut and unmarked beyond both ends of a marked chain.

    Data sets mark whole vertebrae only: above the first and below the last mark a part of the next
    one is often in view. Teaching "nothing here" would be wrong, so its loss is masked.
    """
    if not landmarks:
        return frozenset()
    chain = list(landmarks)
    out: set[Vertebra] = set()
    order: list[Vertebra] = [v for v in Vertebra if v is not Vertebra.T13]
    first, last = chain[0], chain[-1]
    if first is Vertebra.T13:
        out.add(Vertebra.T12)
    elif first is not Vertebra.C1:
        out.add(order[order.index(first) - 1])
    if last in _BEYOND_THE_END:
        below = _BEYOND_THE_END[last]
        out |= {below} if below else set()
    else:
        out.add(order[order.index(last) + 1])
    return frozenset(out)


FACE_MARGIN_MM = 2.0
"""A body that ends this near the volume's upper or lower face may go on beyond it."""


def with_centers(case: TrainingCase, labels: Volume) -> TrainingCase:
    """Return the case with body centres derived from its masks.

    A body cut by the volume's upper or lower face gives a wrong centre: that vertebra becomes
    `partial`. So do the neighbours beyond both ends of the masked chain.
    """
    bodies = locate_bodies(labels)
    found = Landmarks(Landmark(v, tuple(body.center_mm)) for v, body in bodies.items())
    cut = {v for v, body in bodies.items() if is_cut(body, labels.grid)}
    whole = Landmarks(mark for vertebra, mark in found.items() if vertebra not in cut)
    partial = case.partial | cut | possible_neighbours(found)
    return case.with_landmarks(whole, frozenset(partial - set(whole)))


def is_cut(body: VertebraBody, grid: Grid) -> bool:
    """Tell whether a body reaches the volume's head or foot face.

    Processes cut off by a face do not move the body's centre; they do not count.
    """
    reach = body.half_size_mm[2] * body.axes[2]
    ends = np.stack([body.center_mm + reach, body.center_mm - reach])
    along = int(np.argmax(np.abs(np.asarray(grid.direction).reshape(3, 3)[2])))
    depth = grid.map_world_to_indices(ends)[:, 2 - along] + 0.5
    margin = FACE_MARGIN_MM / grid.spacing_mm[along]
    return bool(np.any((depth < margin) | (depth > grid.shape[2 - along] - margin)))
