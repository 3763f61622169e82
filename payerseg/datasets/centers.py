"""Positions from masks, where a data set has no positions of its own."""

from __future__ import annotations

import numpy as np

from payerseg.datasets.cases import TrainingCase, possible_neighbours
from payerseg.domain.grid import Grid
from payerseg.domain.landmarks import Landmark, Landmarks
from payerseg.domain.volume import Volume
from payerseg.imaging.body_centers import VertebraBody, locate_bodies

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
