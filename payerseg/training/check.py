"""Look a data set over before training on it: findings with severities, nothing is changed.

A wrong label teaches more than ten right ones. Each check names the case, what was found and what to do.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from scipy import ndimage

from payerseg.datasets.cases import CaseFiles, Dataset, TrainingCase
from payerseg.datasets.discover import DEFAULT_RULES, ReadingRules, read_case
from payerseg.domain.landmarks import Landmark, Landmarks
from payerseg.domain.vertebra import COCCYX_LABEL, SACRUM_LABEL, Vertebra
from payerseg.domain.volume import Volume
from payerseg.errors import PayersegError
from payerseg.imaging.files import read_volume
from payerseg.training.check_chain import Row, chain_findings, order_findings, step_findings
from payerseg.training.folds import patients_in_both

KNOWN = {v.verse_label for v in Vertebra} | {SACRUM_LABEL, COCCYX_LABEL}
TWIN_SHARE, TWIN_DISTANCE_MM = 0.3, 12.0
"""A second piece this large and this far from the first is another vertebra with the same label."""
OUTSIDE_MASK_MM = 6.0
MIRROR_GAIN_HU = 80.0
"""A mask that covers this much brighter voxels when it is flipped was stored flipped."""
_AXES = {0: "head-foot", 1: "front-back", 2: "left-right"}
_BEHIND_MM = 2.0


def mask_findings(image: Volume, labels: Volume, marks: Landmarks | None) -> Iterator[Row]:
    """Check the masks of one scan against its image and its marks; yield (severity, code, message)."""
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


class Severity(StrEnum):
    """How bad: an error must be repaired, a warning looked at, a note known."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing found.

    Attributes:
        severity: see `Severity`.
        code: stable name of the check.
        case_id: "" for the data set as a whole.
        message: what was found, what was expected, what to do.
    """

    severity: Severity
    code: str
    case_id: str
    message: str


@dataclass(frozen=True, slots=True)
class CheckedCase:
    """What later, data-set-wide checks need of one case."""

    case_id: str
    digest: str
    findings: tuple[Finding, ...]


TOO_BRIGHT_MINIMUM_HU = -200.0
"""A CT of a body holds air; a minimum above this says that the values are not HU."""
_THICK_MM = 6.0


def check_dataset(
    dataset: Dataset,
    rules: ReadingRules = DEFAULT_RULES,
    progress: Callable[[int, int], None] | None = None,
) -> list[Finding]:
    """Check every case and the data set as a whole.

    Args:
        dataset: from `discover`.
        rules: how marks are read.
        progress: told (done, total) after each case.

    Returns:
        Errors first, then warnings, then notes; within them by case.
    """
    checked = []
    for done, files in enumerate(dataset.cases, start=1):
        checked.append(check_case(files, rules))
        if progress:
            progress(done, len(dataset.cases))
    findings = [finding for case in checked for finding in case.findings]
    findings += _set_findings(dataset)
    findings += _duplicates(dataset, checked)
    order = list(Severity)
    return sorted(findings, key=lambda f: (order.index(f.severity), f.case_id, f.code, f.message))


def check_case(files: CaseFiles, rules: ReadingRules = DEFAULT_RULES) -> CheckedCase:
    """Check one case: its files, marks and masks, and that they agree."""
    name = files.case_id
    try:
        image = read_volume(files.image)
    except PayersegError as error:
        found = Finding(Severity.ERROR, f"image_{error.kind}", name, str(error))
        return CheckedCase(name, "", (found,))
    findings = [_finding(name, row) for row in _image_findings(image)]
    case, wrong = _read(files, rules)
    if wrong:
        findings.append(wrong)
    labels, wrong = _labels(files)
    if wrong:
        findings.append(wrong)
    if case is not None and case.landmarks is not None:
        findings += [_finding(name, row) for row in chain_findings(case.landmarks, image.grid)]
    if labels is not None:
        marks = case.landmarks if case is not None else None
        findings += [_finding(name, row) for row in mask_findings(image, labels, marks)]
    if case is not None and case.landmarks is None and files.labels is None:
        message = "has neither positions nor masks; it is of use for self-training only"
        findings.append(Finding(Severity.NOTE, "nothing_marked", name, message))
    if not files.licence:
        message = "has no licence; model cards name the licence of every source (cases.json)"
        findings.append(Finding(Severity.NOTE, "no_licence", name, message))
    return CheckedCase(name, _digest(image.array), tuple(findings))


def _finding(case_id: str, row: tuple[str, str, str]) -> Finding:
    return Finding(Severity(row[0]), row[1], case_id, row[2])


def _image_findings(image: Volume) -> Iterator[tuple[str, str, str]]:
    lowest, highest = float(np.min(image.array)), float(np.max(image.array))
    if not np.isfinite(lowest) or not np.isfinite(highest):
        yield "error", "not_finite", "holds values that are not numbers"
    elif lowest == highest:
        yield "error", "empty_image", f"every voxel is {lowest:.0f}"
    elif lowest > TOO_BRIGHT_MINIMUM_HU or highest < 200:
        yield (
            "warning",
            "not_hounsfield",
            f"values run from {lowest:.0f} to {highest:.0f}; expected Hounsfield units with air",
        )
    if max(image.grid.spacing_mm) > _THICK_MM:
        spacing = " x ".join(f"{s:.2f}" for s in image.grid.spacing_mm)
        yield "note", "thick_slices", f"voxels of {spacing} mm; positions will be coarse"


def _read(files: CaseFiles, rules: ReadingRules) -> tuple[TrainingCase | None, Finding | None]:
    try:
        return read_case(files, rules), None
    except PayersegError as error:
        text = str(error)
        codes = {"out of range": "label_out_of_range", "twice": "doubled_level"}
        code = next((code for word, code in codes.items() if word in text), "landmarks_unreadable")
        return None, Finding(Severity.ERROR, code, files.case_id, text)


def _labels(files: CaseFiles) -> tuple[Volume | None, Finding | None]:
    if files.labels is None:
        return None, None
    try:
        return read_volume(files.labels), None
    except PayersegError as error:
        return None, Finding(Severity.ERROR, f"mask_{error.kind}", files.case_id, str(error))


def _set_findings(dataset: Dataset) -> Iterator[Finding]:
    sides = {
        split: [case.patient_id for case in dataset.cases if case.split == split]
        for split in ("train", "val")
    }
    for patient in patients_in_both(sides["train"], sides["val"]):
        cases = [c.case_id for c in dataset.cases if c.patient_id == patient]
        message = f"patient {patient!r} is in train and in val ({', '.join(cases)}); keep one side"
        yield Finding(Severity.ERROR, "patient_in_train_and_val", "", message)
    if not sides["train"]:
        message = "no case is in train; write train.txt and val.txt, or train with --fold"
        yield Finding(Severity.WARNING, "no_split", "", message)
    elif not sides["val"]:
        message = "no case is in val: there is nothing to choose the best weights by"
        yield Finding(Severity.WARNING, "no_split", "", message)


def _duplicates(dataset: Dataset, checked: list[CheckedCase]) -> Iterator[Finding]:
    splits = {case.case_id: case.split for case in dataset.cases}
    by_content: dict[str, list[str]] = {}
    for case in checked:
        if case.digest:
            by_content.setdefault(case.digest, []).append(case.case_id)
    for names in by_content.values():
        if len(names) < 2:
            continue
        leaks = {"train", "val"} <= {splits[name] for name in names}
        where = "; one is in train, one in val" if leaks else ""
        message = f"{' and '.join(names)} are the same image{where}"
        severity = Severity.ERROR if leaks else Severity.WARNING
        yield Finding(severity, "duplicate_image", names[0], message)


def _digest(array: np.ndarray) -> str:
    """Hash the values, however they are stored."""
    plain = np.ascontiguousarray(np.rint(array), np.int32)
    return hashlib.blake2b(plain.tobytes(), digest_size=16).hexdigest()
