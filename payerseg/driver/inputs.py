"""From what the user typed to cases: one case per scan, named after its file."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from payerseg.domain.series_reference import SERIES_SUFFIX
from payerseg.errors import ArtifactError, UsageError
from payerseg.results.case_folder import MANIFEST_FILE, STATUS_FILE, Case, CaseFolder
from payerseg.results.status import read_status

SCAN_SUFFIXES = (".nii.gz", ".nii", ".mha", ".mhd", ".nrrd")
"""Of files that a person may name; a DICOM series has a file of its own, made by `dicom_inputs`."""
LABEL_MAP_ENDING = "_seg"
RESERVED_IDS = frozenset(
    [
        "bbs.csv",
        "landmarks.csv",
        "valid_landmarks.csv",
        "summary.csv",
        "flat",
        "report.html",
        "ratings.json",
    ]
)
"""What lies beside the case folders: a case of that name would take its place."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A case that cannot even begin; the others are not touched by it.

    Attributes:
        case_id: as it would have been.
        image: the first of its files.
        kind: for machines, as `PayersegError.kind`.
        message: what was found, what was expected, what to do.
    """

    case_id: str
    image: Path
    kind: str
    message: str


@dataclass(frozen=True, slots=True)
class Discovery:
    """What the inputs hold.

    Attributes:
        cases: sorted by case id.
        refusals: sorted by case id.
        notes: what was left aside and why, one line each.
    """

    cases: tuple[Case, ...]
    refusals: tuple[Refusal, ...]
    notes: tuple[str, ...]


def discover_cases(inputs: Iterable[Path]) -> Discovery:
    """Find the scans in files and folders; folders are not searched below their first level.

    Raises:
        UsageError: an input does not exist, is no scan by its name, or nothing was found at all.
    """
    inputs, notes = tuple(inputs), list[str]()
    by_id: dict[str, list[Path]] = defaultdict(list)
    for path in inputs:
        for scan in _scans_of(tidy_path(path), notes):
            if scan not in by_id[case_id_of(scan)]:
                by_id[case_id_of(scan)].append(scan)
    if not by_id:
        places = ", ".join(str(path) for path in inputs)
        msg = f"no scan in {places}; expected files ending in {', '.join(SCAN_SUFFIXES)}"
        raise UsageError(msg)
    found = [_judge(case_id, files) for case_id, files in sorted(by_id.items())]
    cases = tuple(item for item in found if isinstance(item, Case))
    return Discovery(
        cases, tuple(item for item in found if isinstance(item, Refusal)), tuple(notes)
    )


def remembered_cases(output: Path) -> tuple[Case, ...]:
    """Find the cases of an output folder: each folder that holds a status or a stage's result."""
    folders = sorted(item for item in output.iterdir() if item.is_dir()) if output.is_dir() else []
    cases = []
    for folder in folders:
        has_result = any(folder.glob(f"step*/{MANIFEST_FILE}"))
        if not folder.name.startswith(".") and (has_result or (folder / STATUS_FILE).is_file()):
            cases.append(Case(folder.name, _remembered_image(CaseFolder(folder, folder.name))))
    return tuple(cases)


def _remembered_image(folder: CaseFolder) -> Path | None:
    try:
        status = read_status(folder)
    except ArtifactError:
        return None  # what is wrong with it is said where the status is shown
    return status.image if status is not None else None


def tidy_path(path: Path) -> Path:
    """Return an absolute path without ".."; the last part keeps its name, also where it is a link."""
    absolute = path.absolute()
    if ".." not in absolute.parts:
        return absolute
    if absolute.name == "..":
        return absolute.resolve()
    # links have to be followed here: behind one, ".." is not the folder that is written before it
    return absolute.parent.resolve() / absolute.name


def case_id_of(path: Path) -> str:
    """Return the file's name without its scan suffix; nothing else is taken away.

    Raises:
        UsageError: the name has no scan suffix, or is nothing but a suffix.
    """
    suffix = scan_suffix(path)
    if not suffix or len(path.name) == len(suffix):
        msg = f"{path} is no scan by its name; expected one of {', '.join(SCAN_SUFFIXES)}"
        raise UsageError(msg)
    return path.name[: -len(suffix)]


def may_have_folder(case_id: str) -> bool:
    """Tell whether a case of this name may have a folder among the results."""
    return case_id.casefold() not in RESERVED_IDS


def scan_suffix(path: Path) -> str:
    """Return the part of the name that marks a scan ("" if none), as spelled."""
    lower = path.name.lower()
    known = (*SCAN_SUFFIXES, SERIES_SUFFIX)
    length = next((len(suffix) for suffix in known if lower.endswith(suffix)), 0)
    return path.name[len(path.name) - length :]


def _scans_of(path: Path, notes: list[str]) -> list[Path]:
    if path.is_dir():
        return _scans_in(path, notes)
    if not path.is_file():
        msg = f"no such file or folder: {path}; expected a scan or a folder of scans"
        raise UsageError(msg)
    case_id_of(path)
    return [path]


def _scans_in(folder: Path, notes: list[str]) -> list[Path]:
    scans, label_maps = list[Path](), list[Path]()
    try:
        items = sorted(folder.iterdir())
    except OSError as error:
        msg = f"cannot look into {folder}: {error.strerror}; check its permissions"
        raise UsageError(msg) from error
    for item in items:
        suffix = scan_suffix(item)
        if not suffix or item.name.startswith(".") or len(item.name) == len(suffix):
            continue
        is_label_map = item.name[: -len(suffix)].lower().endswith(LABEL_MAP_ENDING)
        (label_maps if is_label_map else scans).append(item)
    if label_maps:
        names = ", ".join(item.name for item in label_maps)
        notes.append(f"left aside as label maps, not scans, by their names: {names}")
    return scans


def _judge(case_id: str, files: list[Path]) -> Case | Refusal:
    first = files[0]
    if not may_have_folder(case_id):
        message = f"a case {case_id!r} would take the place of that file of the results; rename it"
        return Refusal(case_id, first, "usage", message)
    if len(files) > 1:
        # Not only ambiguous: asked for a.nii, some readers open a.nii.gz beside it.
        names = " and ".join(str(item) for item in files)
        message = f"{names} would both be case {case_id!r}; rename or remove one of them"
        return Refusal(case_id, first, "ambiguous", message)
    if first.is_dir():
        message = f"{first} is a folder named like a scan; expected an image file; rename it"
        return Refusal(case_id, first, "unreadable", message)
    if not first.is_file():
        message = f"{first} is a link to nothing, or no regular file; expected an image file"
        return Refusal(case_id, first, "unreadable", message)
    twin = _sibling_of_other_suffix(first, case_id)
    if twin is not None:
        message = (
            f"{twin.name} lies beside {first.name}; some readers take one for the other; move one"
        )
        return Refusal(case_id, first, "ambiguous", message)
    return Case(case_id, first)


def _sibling_of_other_suffix(scan: Path, case_id: str) -> Path | None:
    """Return a.nii.gz beside a.nii or the reverse, also if only one of them was asked for."""
    others = {".nii": ".nii.gz", ".nii.gz": ".nii"}
    other = others.get(scan_suffix(scan).lower())
    twin = scan.with_name(f"{case_id}{other}") if other else None
    return twin if twin is not None and twin.exists() else None
