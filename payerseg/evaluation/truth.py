"""What is true, case by case: a data set in a known layout, or loose label maps and positions."""

from __future__ import annotations

import csv
from dataclasses import dataclass, field
from pathlib import Path

from payerseg.datasets.cases import CaseFiles, TrainingCase, with_centers
from payerseg.datasets.discover import DEFAULT_RULES, ReadingRules, discover, read_case
from payerseg.datasets.label_schemes import SCHEMES, LabelScheme
from payerseg.datasets.point_files import read_lps_json
from payerseg.domain.grid import Grid
from payerseg.domain.landmarks import Landmarks
from payerseg.domain.vertebra import Vertebra
from payerseg.domain.volume import Volume
from payerseg.errors import DatasetError, UsageError
from payerseg.evaluation.predictions import (
    CaseFilesFound,
    case_key,
    choose_points,
    find_case_files,
    is_list,
    needs_grid,
    read_labels,
    read_loose_labels,
    read_points,
)

LOOSE = "loose"


@dataclass(frozen=True, slots=True)
class TruthRules:
    """How a truth folder is to be read.

    Attributes:
        layout: "auto", a layout of `datasets.discover`, or "loose" files.
        split: only cases of this split; "" for all.
        reading: spaces and conventions that files do not tell.
        scheme: meaning of the label numbers.
    """

    layout: str = "auto"
    split: str = ""
    reading: ReadingRules = DEFAULT_RULES
    scheme: LabelScheme = field(default_factory=lambda: SCHEMES["verse"])


@dataclass(frozen=True, slots=True)
class Truth:
    """What is true of one scan.

    Attributes:
        case_id: as the truth names it.
        landmarks: centres; empty for a scan without vertebrae.
        labels: label map in canonical order; None where there is none.
        unmarked: visible, but not marked: finding them is no error, their masks are not scored.
        scan_grid: voxels of the scan, where the truth tells.
    """

    case_id: str
    landmarks: Landmarks
    labels: Volume | None = None
    unmarked: frozenset[Vertebra] = frozenset()
    scan_grid: Grid | None = None


@dataclass(frozen=True, slots=True)
class TruthFiles:
    """Where the truth of one case lies; nothing is opened yet."""

    case_id: str
    listed: CaseFiles | None = None
    loose: CaseFilesFound | None = None


def find_truth(root: Path, rules: TruthRules) -> dict[str, TruthFiles]:
    """List the cases of a truth folder by `case_key`; cases without any mark are left out.

    Raises:
        DatasetError: not a folder, nothing in it, or what the layout's reader says.
    """
    if not root.is_dir():
        msg = f"{root} is not a folder; expected ground truth"
        raise DatasetError(msg)
    found = _listed(root, rules)
    if found is None:
        found = {
            name: TruthFiles(name, loose=files) for name, files in find_case_files(root).items()
        }
    if not found:
        msg = f"{root} holds no ground truth; expected label maps or vertebra positions"
        raise DatasetError(msg)
    return found


def read_truth(where: TruthFiles, rules: TruthRules, *, with_labels: bool = True) -> Truth:
    """Read what is true of one scan; positions are derived where there are only masks.

    Args:
        where: as `find_truth` gives it.
        rules: the same as there.
        with_labels: False leaves label maps unread where positions are at hand.
    """
    if where.listed is not None:
        return _of_data_set(where.listed, rules, with_labels=with_labels)
    return _of_loose_files(where, rules, with_labels=with_labels)


def read_groups(path: Path) -> dict[str, str]:
    """Read a table `case,group` (header line first) as case key → group.

    Raises:
        UsageError: it cannot be read, has other columns, or a row that is too long or too short.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = [[cell.strip() for cell in row] for row in csv.reader(file)]
    except (OSError, ValueError, csv.Error) as error:
        msg = f"{path} cannot be read as a table ({error}); expected CSV with columns case,group"
        raise UsageError(msg) from error
    head = rows[0] if rows else []
    if not {"case", "group"} <= set(head):
        msg = f"{path} has columns {head}; expected case,group"
        raise UsageError(msg)
    for number, row in enumerate(rows, start=1):
        if any(row) and len(row) != len(head):
            msg = f"{path}, line {number}: {len(row)} cells under {len(head)} columns; is a comma lost?"
            raise UsageError(msg)
    case, group = head.index("case"), head.index("group")
    return {case_key(row[case]): row[group] for row in rows[1:] if any(row)}


def _listed(root: Path, rules: TruthRules) -> dict[str, TruthFiles] | None:
    """List a data set of a known layout; None where the folder has none and may be loose files."""
    if rules.layout == LOOSE:
        return None
    try:
        data_set = discover(root, rules.layout)  # type: ignore[arg-type]
    except DatasetError:
        if rules.layout != "auto":
            raise
        return None
    return {
        case_key(case.case_id): TruthFiles(case.case_id, listed=case)
        for case in data_set.cases
        if (case.landmark_file or case.labels) and (not rules.split or case.split == rules.split)
    }


def _of_data_set(files: CaseFiles, rules: TruthRules, *, with_labels: bool) -> Truth:
    case = read_case(files, rules.reading)
    labels = None
    if case.labels is not None and (with_labels or case.landmarks is None):
        labels = read_labels(case.labels, rules.scheme)
    if case.landmarks is None and labels is not None:
        case = with_centers(case, labels)
    landmarks = case.landmarks if case.landmarks is not None else Landmarks()
    grid = labels.grid if labels is not None else None
    return Truth(case.case_id, landmarks, labels if with_labels else None, case.partial, grid)


def _of_loose_files(where: TruthFiles, rules: TruthRules, *, with_labels: bool) -> Truth:
    files = where.loose or CaseFilesFound()
    points = choose_points(files.points)
    labels = read_loose_labels(files, rules.scheme) if with_labels or needs_grid(points) else None
    grid = labels.grid if labels is not None else None
    kept = labels if with_labels else None
    if points is not None:
        unmarked: frozenset[Vertebra] = frozenset()
        if points.suffix == ".json" and not needs_grid(points) and not is_list(points):
            unmarked = read_lps_json(points)[1]
        return Truth(where.case_id, read_points(points, labels), kept, unmarked, grid)
    if labels is None:
        msg = f"{where.case_id} has neither a label map nor positions"
        raise DatasetError(msg)
    place = files.labels or next(iter(files.masks))
    case = with_centers(TrainingCase(where.case_id, where.case_id, place), labels)
    return Truth(where.case_id, case.landmarks or Landmarks(), kept, case.partial, grid)
