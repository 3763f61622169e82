"""Checks of vertebra masks: their grid, values, pieces and order; that image, masks and marks agree.

Each yields (severity, code, message) rows.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy import ndimage

from payerseg.domain.landmarks import Landmark, Landmarks
from payerseg.domain.vertebra import COCCYX_LABEL, SACRUM_LABEL, Vertebra
from payerseg.domain.volume import Volume
from payerseg.training.check_chain import Row, order_findings, step_findings

KNOWN = {v.verse_label for v in Vertebra} | {SACRUM_LABEL, COCCYX_LABEL}
TWIN_SHARE, TWIN_DISTANCE_MM = 0.3, 12.0
"""A second piece this large and this far from the first is another vertebra with the same label."""
OUTSIDE_MASK_MM = 6.0
MIRROR_GAIN_HU = 80.0
"""A mask that covers this much brighter voxels when it is flipped was stored flipped."""
_AXES = {0: "head-foot", 1: "front-back", 2: "left-right"}
_BEHIND_MM = 2.0


def mask_findings(image: Volume, labels: Volume, marks: Landmarks | None) -> Iterator[Row]:
    """Check the masks of one scan against its image and its marks."""
    if not image.grid.same_space_as(labels.grid):
        yield "error", "grid_differs", _grid_difference(image, labels)
        return
    values = np.unique(labels.array)
    if not np.any(values):
        yield "error", "empty_mask", "the mask holds no label"
        return
    unknown = [v for v in values.tolist() if v and v not in KNOWN]
    if unknown:
        yield "error", "label_out_of_range", _unknown_labels(unknown)
    boxes = ndimage.find_objects(labels.array.astype(np.int32, copy=False))
    pieces = {v: _Pieces(labels, v, boxes) for v in Vertebra if v.verse_label in values}
    for vertebra, found in pieces.items():
        yield from _piece_findings(vertebra, found)
    centroids = Landmarks(Landmark(v, tuple(p.centroid_mm)) for v, p in pieces.items())
    yield from order_findings(centroids)
    if marks is None:
        yield from step_findings(centroids)
    yield from _facing_findings(pieces)
    yield from _mirror_findings(image, labels)
    if marks is not None:
        yield from _agreement_findings(labels, marks, pieces)


class _Pieces:
    """The connected pieces of one label.

    Attributes:
        centroid_mm: of all its voxels.
        sizes: voxels per piece, largest first.
        centers_mm: of the pieces, in that order.
        core_mm: its thickest place.
    """

    def __init__(self, labels: Volume, vertebra: Vertebra, boxes: list) -> None:
        box = boxes[vertebra.verse_label - 1]
        start = np.array([part.start for part in box])
        mask = labels.array[box] == vertebra.verse_label
        parts, count = ndimage.label(mask, np.ones((3, 3, 3)))
        sizes = np.bincount(parts.ravel())[1:]
        order = np.argsort(-sizes, kind="stable")
        centers = np.array(ndimage.center_of_mass(mask, parts, range(1, count + 1)))
        self.sizes = sizes[order]
        self.centers_mm = labels.grid.map_indices_to_world(centers[order] + start)
        whole = np.average(centers, axis=0, weights=sizes)
        self.centroid_mm = labels.grid.map_indices_to_world(whole + start)[0]
        depth = ndimage.distance_transform_edt(
            np.pad(mask, 1), sampling=labels.grid.spacing_mm[::-1]
        )
        core = np.array(np.unravel_index(np.argmax(depth), depth.shape)) - 1
        self.core_mm = labels.grid.map_indices_to_world(core + start)[0]


def _grid_difference(image: Volume, labels: Volume) -> str:
    if image.grid.shape != labels.grid.shape:
        return (
            f"the mask has {labels.grid.shape} voxels (z, y, x), the image {image.grid.shape}; "
            "resample it onto the image"
        )
    gap = image.grid.corners_mm() - labels.grid.corners_mm()
    return (
        f"the mask lies up to {np.abs(gap).max():.2f} mm away from the image; "
        "one of the headers is wrong"
    )


def _unknown_labels(unknown: list) -> str:
    few = ", ".join(str(v) for v in unknown[:6]) + (", ..." if len(unknown) > 6 else "")
    return (
        f"the mask holds the values {few}; expected VerSe labels 1-25 and 28 (26 sacrum, 27 "
        "coccyx). Masks of other tools need their label scheme converted first"
    )


def _piece_findings(vertebra: Vertebra, found: _Pieces) -> Iterator[Row]:
    total = int(found.sizes.sum())
    if len(found.sizes) < 2:
        return
    gap = float(np.linalg.norm(found.centers_mm[1] - found.centers_mm[0]))
    if found.sizes[1] > TWIN_SHARE * total and gap > TWIN_DISTANCE_MM:
        yield (
            "error",
            "doubled_level",
            f"{vertebra.name} has two large pieces {gap:.0f} mm apart: two vertebrae, one label?",
        )
    elif found.sizes[0] < 0.98 * total:
        yield (
            "note",
            "specks",
            (
                f"{vertebra.name} has {len(found.sizes) - 1} loose pieces, "
                f"{100 * (1 - found.sizes[0] / total):.0f} % of its voxels"
            ),
        )


def _facing_findings(pieces: dict[Vertebra, _Pieces]) -> Iterator[Row]:
    """The body, the thickest part, lies in front of the whole mask's centroid."""
    sides = [
        float(found.centroid_mm[1] - found.core_mm[1])
        for vertebra, found in pieces.items()
        if vertebra.rank >= Vertebra.C3.rank
    ]
    if len(sides) > 1 and np.median(sides) < -_BEHIND_MM:
        yield (
            "error",
            "mirrored_front_back",
            "the vertebral bodies lie behind their processes; the header is mirrored front to back",
        )


def _mirror_findings(image: Volume, labels: Volume) -> Iterator[Row]:
    """Bone is bright: a mask that fits better when flipped was stored flipped."""
    steps = tuple(slice(None, None, max(1, size // 160)) for size in image.grid.shape)
    mask = (labels.array[steps] > 0) & (labels.array[steps] < SACRUM_LABEL)
    hu = np.clip(image.array[steps], -200, 1000).astype(np.float32)
    if not mask.any():
        return
    here = float(hu[mask].mean())
    flipped = {name: float(hu[np.flip(mask, axis)].mean()) for axis, name in _AXES.items()}
    best = max(flipped, key=lambda name: flipped[name])
    if flipped[best] > here + MIRROR_GAIN_HU:
        yield (
            "error",
            "mirrored_mask",
            (
                f"the mask covers {here:.0f} HU on average, mirrored {best} {flipped[best]:.0f} HU; "
                "it was stored the other way round"
            ),
        )
    elif here < 50:
        yield (
            "warning",
            "mask_not_on_bone",
            f"the mask covers {here:.0f} HU on average; expected bone, above 100 HU",
        )


def _agreement_findings(
    labels: Volume, marks: Landmarks, pieces: dict[Vertebra, _Pieces]
) -> Iterator[Row]:
    """A mark lies in its own mask, never in a neighbour's; C1's point is the dens, a part of C2."""
    index = np.rint(labels.grid.map_world_to_indices(marks.positions_mm)).astype(int)
    size = np.asarray(labels.grid.shape)
    for vertebra, zyx in zip(marks, index, strict=True):
        if vertebra is Vertebra.C1 or np.any(zyx < 0) or np.any(zyx >= size):
            continue
        value = int(labels.array[tuple(zyx)])
        if value == vertebra.verse_label:
            continue
        name = vertebra.name
        if value in {v.verse_label for v in Vertebra}:
            other = Vertebra(value).name
            message = f"the mark of {name} lies in the mask of {other}; marks and masks disagree"
            yield "error", "landmark_outside_mask", message
        elif vertebra in pieces:
            away = _distance_to_label_mm(labels, vertebra, zyx)
            if away > OUTSIDE_MASK_MM:
                message = f"the mark of {name} lies more than {OUTSIDE_MASK_MM:.0f} mm off its mask"
                yield "error", "landmark_outside_mask", message
        else:
            yield "warning", "mark_without_mask", f"{name} is marked but has no mask"
    missing = [v.name for v in pieces if v not in marks]
    if missing:
        message = f"{', '.join(missing)} has a mask but no mark (cut by the volume's face?)"
        yield "note", "mask_without_mark", message


def _distance_to_label_mm(labels: Volume, vertebra: Vertebra, zyx: np.ndarray) -> float:
    """Return the distance from a voxel to the nearest one of a label, capped at twice the limit."""
    reach = np.ceil(2 * OUTSIDE_MASK_MM / np.asarray(labels.grid.spacing_mm[::-1])).astype(int)
    low, high = np.maximum(zyx - reach, 0), np.minimum(zyx + reach + 1, labels.grid.shape)
    block = labels.array[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
    near = np.argwhere(block == vertebra.verse_label) + low
    if not len(near):
        return 2 * OUTSIDE_MASK_MM
    steps = (near - zyx) * np.asarray(labels.grid.spacing_mm[::-1])
    return float(np.sqrt((steps**2).sum(axis=1)).min())
