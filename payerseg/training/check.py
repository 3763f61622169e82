"""Look a data set over before training on it: findings with severities, nothing is changed.

A wrong label teaches more than ten right ones. Each check names the case, what was found and what to do.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from payerseg.datasets.cases import CaseFiles, Dataset, TrainingCase
from payerseg.datasets.discover import DEFAULT_RULES, ReadingRules, read_case
from payerseg.domain.volume import Volume
from payerseg.errors import PayersegError
from payerseg.imaging.files import read_volume
from payerseg.training.check_chain import chain_findings
from payerseg.training.check_masks import mask_findings
from payerseg.training.folds import patients_in_both


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
