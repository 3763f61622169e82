"""DICOM folders, zips and files among the inputs become scans: one small file per chosen series.

Who parses headers is a process of its own (`stages.dicom_inventory`), watched like a stage; here is
only what to ask it and what to make of the answer. Nothing of a scan is copied: a series file names the
files of the series, and preparation reads them where they lie.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from payerseg import records
from payerseg.atomic import write_text
from payerseg.config.load import section_to_dict
from payerseg.config.schema import INPUT_PREFIX, DicomInventoryConfig
from payerseg.dicom.names import distinct_names, series_names, source_name
from payerseg.dicom.source import DIRECTORY_FILE, ZIP_ENDING, is_dicom_file, require_pydicom
from payerseg.domain.series_reference import SERIES_SUFFIX, SeriesReference
from payerseg.driver.inputs import Refusal, scan_suffix, scans_below, tidy_path
from payerseg.driver.messages import StageClock
from payerseg.driver.run_folder import RunFolder, new_run_id
from payerseg.driver.settings import RunSettings, StagePlan
from payerseg.driver.stage_run import StageRun
from payerseg.errors import UsageError
from payerseg.results.artifacts import DICOM_INVENTORY as INVENTORY_FILE
from payerseg.results.case_folder import Case
from payerseg.results.status import StageState
from payerseg.stagekit.catalog import DICOM_INVENTORY

SERIES_FOLDER = "dicom"
MAX_REMARKS = 20


@dataclass(frozen=True, slots=True)
class DicomFound:
    """What the DICOM inputs hold.

    Attributes:
        scans: series files, each named after its case.
        refusals: series that were wanted and cannot be used, inputs without any.
        notes: what was chosen, what was left aside, one line each.
    """

    scans: tuple[Path, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Answer:
    """What the inventory said of one input: facts, or why there are none."""

    source: Path
    facts: Mapping[str, Any] | None = None
    kind: str = ""
    message: str = ""


def split_inputs(inputs: Iterable[Path]) -> tuple[list[Path], list[Path], list[str]]:
    """Tell plain inputs (scans, folders of scans) from DICOM ones.

    A folder with scans on its first level is a folder of scans; another one is searched to its bottom for
    DICOM files and zips, and may hold scans as well.

    Returns:
        Plain inputs, absolute DICOM sources, and notes.
    """
    plain: list[Path] = []
    sources: list[Path] = []
    notes: list[str] = []
    for path in inputs:
        found = _sources_of(tidy_path(path), notes)
        sources += [item for item in found if item not in sources]
        if not found or (os.path.isdir(path) and scans_below(tidy_path(path))):
            plain.append(path)
    return plain, sources, notes


def find_series(
    sources: Sequence[Path], settings: RunSettings, series_folder: Path, work: Path
) -> DicomFound:
    """Take the inventory of DICOM sources and write a series file for every chosen volume.

    Args:
        sources: from `split_inputs`.
        settings: of the run.
        series_folder: where series files are kept.
        work: empty folder for the inventory's own files.

    Raises:
        UsageError: the extra for DICOM is not installed, or the inventory refuses what it is asked.
        OutOfResources: no process can be started.
    """
    require_pydicom()
    answers = list(_ask(sources, settings, work))
    named = name_series(
        {
            answer.source: [
                (item["members"], item["number"]) for item in (answer.facts or {}).get("found", ())
            ]
            for answer in answers
        }
    )
    scans: list[Path] = []
    refusals: list[Refusal] = []
    notes: list[str] = []
    for answer in answers:
        if answer.facts is None:
            name = source_name(answer.source)
            refusals.append(Refusal(name, answer.source, answer.kind, answer.message))
            continue
        notes += [f"{answer.source.name}: {remark}" for remark in answer.facts["remarks"]]
        found = answer.facts["found"]
        if not found:
            refusals.append(_nothing_found(answer))
        for name, item in zip(named[answer.source], found, strict=True):
            said = f"series {item['number']}: {item['reason']}"
            if item["kind"]:
                refusals.append(Refusal(name, answer.source, item["kind"], said))
                continue
            scans.append(_write_reference(series_folder / f"{name}{SERIES_SUFFIX}", answer, item))
            notes.append(f"{name}: {said}")
    return DicomFound(tuple(scans), tuple(refusals), _shortened(notes))


def _sources_of(path: Path, notes: list[str]) -> list[Path]:
    if os.path.isfile(path):
        if path.name.upper() == DIRECTORY_FILE:
            return [path.parent]
        packed = path.suffix.lower() == ZIP_ENDING
        return [path] if packed or (not scan_suffix(path) and is_dicom_file(path)) else []
    if not os.path.isdir(path):
        return []
    loose, zips = _look_into(path)
    if _has_scans(path):
        n_left = len(zips) + loose
        if n_left:
            text = f"{path} holds scans, so its DICOM files and zips were left aside; name them as inputs"
            notes.append(text)
        return []
    return [*([path] if loose else []), *zips]


def _has_scans(folder: Path) -> bool:
    return any(scan_suffix(item) and not item.name.startswith(".") for item in _items(folder))


def _items(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []  # the search for scans says why


def _look_into(folder: Path) -> tuple[bool, list[Path]]:
    """Tell whether a folder holds any DICOM file, and list its zips.

    Of a folder of scans only the first level is looked at.
    """
    loose, zips = False, []
    depth_one = _has_scans(folder)
    for place, subfolders, names in os.walk(folder):
        subfolders[:] = [] if depth_one else sorted(n for n in subfolders if not n.startswith("."))
        for name in sorted(n for n in names if not n.startswith(".")):
            item = Path(place) / name
            if item.suffix.lower() == ZIP_ENDING:
                zips.append(item)
            elif not loose and not scan_suffix(item) and os.path.isfile(item):
                loose = is_dicom_file(item)
    return loose, zips


def _ask(sources: Sequence[Path], settings: RunSettings, work: Path) -> Iterator[_Answer]:
    """Run the inventory over the sources and yield what it says of each."""
    config = DicomInventoryConfig(
        tuple(str(source) for source in sources),
        settings.driver.dicom_series,
        settings.config.preparation.uneven_slices == "interpolate",
    )
    plan = StagePlan(DICOM_INVENTORY, section_to_dict(config), seed=settings.driver.seed)
    asked = replace(settings, output=work)
    folder = RunFolder(asked.driver_folder, new_run_id(asked.driver_folder), stays=False)
    cases = [Case(f"{INPUT_PREFIX}{k}") for k in range(len(sources))]
    clock = StageClock(DICOM_INVENTORY.name, 1, 1, len(cases))
    end = StageRun(plan, asked, folder, lambda _message: None).run(cases, {}, clock)
    for source, case in zip(sources, cases, strict=True):
        outcome = end.outcomes[case.case_id]
        if end.rejected or end.bug:
            raise UsageError(outcome.message)
        if outcome.state is not StageState.DONE:
            yield _Answer(source, kind=outcome.kind or "crashed", message=outcome.message)
            continue
        path = asked.case_folder(case.case_id).path(INVENTORY_FILE)
        yield _Answer(source, records.read(dict[str, Any], path, "run the same command again"))


def name_series(found: Mapping[Path, Sequence[tuple[Sequence[str], str]]]) -> dict[Path, list[str]]:
    """Name the volumes of all inputs; where two inputs use a name, the folders above tell them apart.

    Args:
        found: source to the files and the number of each of its volumes, as for `series_names`.
    """
    named = {source: series_names(source, series) for source, series in found.items()}
    uses = Counter(name for names in named.values() for name in names)
    qualified = {
        source: [f"{source_name(source.parent)}_{n}" if uses[n] > 1 else n for n in names]
        for source, names in named.items()
    }
    flat = iter(distinct_names([name for names in qualified.values() for name in names]))
    return {source: [next(flat) for _ in names] for source, names in qualified.items()}


def _nothing_found(answer: _Answer) -> Refusal:
    facts = answer.facts or {}
    reasons = (
        "; ".join([*facts.get("left", ()), *facts.get("remarks", ())]) or "nothing in it is DICOM"
    )
    message = f"no CT volume to use in {answer.source.name}: {reasons}"
    return Refusal(source_name(answer.source), answer.source, "not_3d", message)


def _write_reference(path: Path, answer: _Answer, item: Mapping[str, Any]) -> Path:
    """Write a series file in one step; one that says the same is left untouched."""
    frames = {name: tuple(kept) for name, kept in item["frames"].items()}
    notes = tuple((code, message, review) for code, message, review in item["notes"])
    members = tuple(item["members"])
    text = SeriesReference(answer.source, members, frames, item["reason"], notes).to_json()
    if os.path.isfile(path) and path.read_bytes() == text.encode():
        return path
    write_text(path, text)
    return path


def _shortened(notes: Sequence[str]) -> tuple[str, ...]:
    if len(notes) <= MAX_REMARKS:
        return tuple(notes)
    left = (
        f"and {len(notes) - MAX_REMARKS} more; each case's scan.json says why its series was chosen"
    )
    return (*notes[:MAX_REMARKS], left)
