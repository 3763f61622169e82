"""Tables and flat copies at the root of the results: derived from the case folders, never read back.

bbs.csv, landmarks.csv and valid_landmarks.csv have the reference's format (no header, `nan` for a missing
vertebra); their numbers are millimetres in the physical space of the input file (LPS).
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from payerseg import records
from payerseg.atomic import write_text
from payerseg.domain.vertebra import N_CHANNELS
from payerseg.driver.inputs import remembered_cases
from payerseg.driver.settings import RunSettings
from payerseg.errors import ArtifactError
from payerseg.exports.flat import remove_flat, write_flat
from payerseg.results.artifacts import LANDMARKS_CSV, SEGMENTATION, SPINE_BOX, Artifact
from payerseg.results.case_folder import CaseFolder
from payerseg.results.fingerprint import HashMemo
from payerseg.results.landmark_rows import BoxRecord, LandmarkRow, parse_rows
from payerseg.results.status import HAS_RESULT, CaseSummary, StageState, read_status
from payerseg.stagekit.case_state import current_result

FLAT_FOLDER = "flat"

Statuses = Mapping[str, CaseSummary]


def write_exports(settings: RunSettings, judged: Statuses, memo: HashMemo) -> tuple[str, ...]:
    """Write all root-level tables, and the flat copies if asked for, now or by an earlier run.

    All cases of the output folder are in them, not only those of this run.

    Args:
        settings: of the run.
        judged: cases of this run, whose outcomes are believed; others are judged by `current_result`.
        memo: for the hashes.

    Returns:
        Why a case is left out although it has a result, one sentence each.

    Raises:
        OSError: they cannot be written.
    """
    trouble: list[str] = []
    cases = [settings.case_folder(case.case_id) for case in remembered_cases(settings.output)]
    statuses = {
        case.case_id: judged.get(case.case_id) or _read_status(case, trouble) for case in cases
    }
    has = {
        case.case_id: _found_true(case, statuses[case.case_id])
        if case.case_id in judged
        else current_result(case, memo, settings.pipeline).has
        for case in cases
    }
    boxes = {
        case.case_id: box
        for case in cases
        if has[case.case_id](SPINE_BOX) and (box := _read_box(case, trouble))
    }
    landmarks = {
        case.case_id: rows
        for case in cases
        if has[case.case_id](LANDMARKS_CSV) and (rows := _read_landmarks(case, trouble))
    }
    output = settings.output
    _write_csv(output / "bbs.csv", [[case_id, *box] for case_id, box in boxes.items()])
    _write_csv(output / "landmarks.csv", [_landmark_line(*item) for item in landmarks.items()])
    valid = [
        [case_id, *sorted(row.vertebra.channel for row in rows)]
        for case_id, rows in landmarks.items()
    ]
    _write_csv(output / "valid_landmarks.csv", valid)
    _write_csv(output / "summary.csv", _summary_lines(settings, statuses, landmarks))
    flat = output / FLAT_FOLDER
    if "flat" in settings.exports or flat.is_dir():
        for case in cases:
            if has[case.case_id](SEGMENTATION):
                rows = landmarks.get(case.case_id, ())
                points = [(row.vertebra.verse_label, row.position_mm) for row in rows]
                write_flat(case.case_id, case.path(SEGMENTATION), points, flat)
            else:
                remove_flat(case.case_id, flat)
    return tuple(trouble)


def _found_true(case: CaseFolder, status: CaseSummary) -> Callable[[Artifact], bool]:
    """Return a function that tells whether an artifact belongs to a result that the run found true."""

    def has(artifact: Artifact) -> bool:
        outcome = status.stages.get(artifact.step.partition("_")[2])
        good = outcome is not None and outcome.state in HAS_RESULT - {StageState.NO_SPINE}
        return (
            good and case.manifest_path(artifact.step).is_file() and case.path(artifact).is_file()
        )

    return has


def _read_landmarks(case: CaseFolder, trouble: list[str]) -> tuple[LandmarkRow, ...]:
    """Return a case's landmark table, as written or as a person left it; empty if it is unreadable."""
    path = case.path(LANDMARKS_CSV)
    try:
        return parse_rows(path.read_text(encoding="utf-8-sig"), str(path))
    except (ArtifactError, UnicodeDecodeError) as error:
        trouble.append(f"{case.case_id!r} is not in the tables: {error}")
        return ()


def _read_status(case: CaseFolder, trouble: list[str]) -> CaseSummary:
    """Return how a case ended; an empty status where that is not known."""
    try:
        found = read_status(case)
    except ArtifactError as error:
        trouble.append(f"{case.case_id!r} is in summary.csv without its status: {error}")
        found = None
    return found if found is not None else CaseSummary(case.case_id, "")


def _read_box(case: CaseFolder, trouble: list[str]) -> list[float]:
    """Return a case's spine box, low then high x, y, z in mm; empty if it is unreadable."""
    try:
        box = records.read(BoxRecord, case.path(SPINE_BOX), "run spine_localization again")
    except ArtifactError as error:
        trouble.append(f"{case.case_id!r} is not in bbs.csv: {error}")
        return []
    return [*box.low_mm, *box.high_mm] if box is not None else []


def _landmark_line(case_id: str, rows: Iterable[LandmarkRow]) -> list[Any]:
    by_channel = {row.vertebra.channel: row.position_mm for row in rows}
    absent = (float("nan"),) * 3
    values = [value for i in range(N_CHANNELS) for value in by_channel.get(i, absent)]
    return [case_id, *values]


def _summary_lines(
    settings: RunSettings,
    statuses: Statuses,
    landmarks: dict[str, tuple[LandmarkRow, ...]],
) -> list[list[Any]]:
    stages = [spec.name for spec in settings.pipeline]
    head = [
        "case_id",
        "status",
        "message",
        "n_vertebrae",
        "first",
        "last",
        "seconds",
        "peak_rss_mb",
    ]
    lines: list[list[Any]] = [[*head, *stages, "image"]]
    for case_id, status in statuses.items():
        outcomes = [status.stages.get(name) for name in stages]
        done = [outcome for outcome in outcomes if outcome is not None]
        found = sorted(row.vertebra for row in landmarks.get(case_id, ()))
        names = [vertebra.name for vertebra in found]
        facts = [case_id, status.status, status.message, len(names)]
        ends = [names[0], names[-1]] if names else ["", ""]
        seconds = round(sum(outcome.seconds for outcome in done), 3)
        peak = max((outcome.peak_rss_mb for outcome in done), default=0.0)
        states = [outcome.state if outcome is not None else "" for outcome in outcomes]
        lines.append([*facts, *ends, seconds, peak, *states, status.image or ""])
    return lines


def _write_csv(path: Path, lines: Iterable[Iterable[Any]]) -> None:
    out = io.StringIO()
    cells = ([_cell(value) for value in line] for line in lines)
    csv.writer(out, lineterminator="\n").writerows(cells)
    write_text(path, out.getvalue())


def _cell(value: Any) -> Any:
    """Quote a text that a spreadsheet would take for a formula; names of scans are anybody's."""
    is_formula = isinstance(value, str | Path) and str(value).startswith(
        ("=", "+", "-", "@", "\t", "\r")
    )
    return f"'{value}" if is_formula else value
