"""DICOM folders, zips and files among the inputs become scans: one small file per chosen series.

Who parses headers is a process of its own (`stages.dicom_inventory`), watched like a stage; here is
only what to ask it and what to make of the answer. Nothing of a scan is copied: a series file names the
files of the series, and preparation reads them where they lie.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from payerseg import records
from payerseg.atomic import write_text
from payerseg.config.dicom import INPUT_PREFIX, DicomInventoryConfig
from payerseg.config.installation import programs_parent
from payerseg.config.load import section_to_dict
from payerseg.dicom.names import distinct_names, series_names, source_name
from payerseg.dicom.source import DIRECTORY_FILE, ZIP_ENDING, is_dicom_file, require_pydicom
from payerseg.domain.series_reference import SERIES_SUFFIX, SeriesReference
from payerseg.driver.child_env import child_environment
from payerseg.driver.inputs import Refusal, scan_suffix, scans_below, tidy_path
from payerseg.driver.run_folder import new_run_id
from payerseg.driver.settings import RunSettings
from payerseg.driver.supervisor import Child, ChildEnd, Command, Event, Timers, log_tail
from payerseg.errors import UsageError
from payerseg.results.artifacts import DICOM_INVENTORY as INVENTORY_FILE
from payerseg.results.case_folder import CaseFolder
from payerseg.stagekit.catalog import DICOM_INVENTORY
from payerseg.stagekit.protocol import CaseRequest, EventName, StageRequest

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
    answers = _ask(sources, settings, work)
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


def _ask(sources: Sequence[Path], settings: RunSettings, work: Path) -> list[_Answer]:
    """Run the inventory; after a crash the input in flight is blamed and the others go on."""
    answers: dict[Path, _Answer] = {}
    for number in range(settings.driver.max_restarts + 1):
        waiting = [source for source in sources if source not in answers]
        if not waiting:
            break
        folder = work / str(number)
        end, heard, log = _run_child(waiting, settings, folder)
        if end.rejected is not None:
            raise UsageError(str(end.rejected.get("message", "the DICOM inventory refused")))
        for k, source in enumerate(waiting):
            answer = _answer(source, f"{INPUT_PREFIX}{k}", folder, heard)
            if answer is None and end.in_flight == f"{INPUT_PREFIX}{k}":
                message = (
                    f"looking through it, the process {end.describe()}\n{log_tail(log)}".strip()
                )
                answer = _Answer(source, kind="crashed", message=message)
            if answer is not None:
                answers[source] = answer
    missing = "the inventory of DICOM inputs ended again and again before it came to this one"
    return [
        answers.get(source) or _Answer(source, kind="crashed", message=missing)
        for source in sources
    ]


def _run_child(
    sources: Sequence[Path], settings: RunSettings, folder: Path
) -> tuple[ChildEnd, dict[str, Event], Path]:
    """Start the inventory for some inputs and follow it to its end."""
    driver = settings.driver
    config = DicomInventoryConfig(
        tuple(str(source) for source in sources),
        driver.dicom_series,
        settings.config.preparation.uneven_slices == "interpolate",
    )
    names = [f"{INPUT_PREFIX}{k}" for k in range(len(sources))]
    folder.mkdir(parents=True)
    request = StageRequest(
        run_id=new_run_id(folder),
        stage=DICOM_INVENTORY.name,
        stage_version=DICOM_INVENTORY.version,
        cases=tuple(CaseRequest(name, folder / name) for name in names),
        config=section_to_dict(config),
        seed=driver.seed,
        heartbeat_s=driver.heartbeat_s,
    )
    path, log = folder / "request.json", folder / "stderr.log"
    path.write_text(request.to_json(), encoding="utf-8")
    command = Command(
        DICOM_INVENTORY.module, path, programs_parent(), child_environment(driver, os.environ), log
    )
    timers = Timers(driver.startup_s, driver.silence_s, lambda _: driver.case_s, driver.grace_s)
    heard: dict[str, Event] = {}

    def hear(event: Event) -> None:
        if event["event"] in (EventName.CASE_DONE, EventName.CASE_FAILED):
            heard[str(event["case_id"])] = event

    return Child(command, timers, hear).run(), heard, log


def _answer(source: Path, name: str, folder: Path, heard: Mapping[str, Event]) -> _Answer | None:
    event = heard.get(name)
    if event is None:
        return None
    if event["event"] == EventName.CASE_FAILED:
        return _Answer(source, kind=str(event.get("kind")), message=str(event.get("message")))
    path = CaseFolder(folder / name, name).path(INVENTORY_FILE)
    return _Answer(source, records.read(dict[str, Any], path, "run the same command again"))


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
