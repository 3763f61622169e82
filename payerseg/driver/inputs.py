"""From what the user typed to cases: one case per scan, named after its file, in a tree after its path."""

from __future__ import annotations

import os
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from payerseg.domain.series_reference import SERIES_SUFFIX
from payerseg.errors import ArtifactError, UsageError
from payerseg.results.case_folder import MANIFEST_FILE, STATUS_FILE, Case, CaseFolder
from payerseg.results.status import read_status
from payerseg.stagekit.case_state import case_folders

SCAN_SUFFIXES = (".nii.gz", ".nii", ".mha", ".mhd", ".nrrd")
"""Of files that a person may name; a DICOM series has a file of its own, made by `dicom_inputs`."""
LABEL_MAP_ENDINGS = ("_seg", "_dseg", "_msk", "_mask")
NOT_SCANS = re.compile(r"segmentations?|derivatives|labels.*|masks?|step\d_.*", re.IGNORECASE)
"""Folders of a tree that hold label maps or results."""
UNNAMED = re.compile(r"ct|images?(tr|ts|val)?|rawdata", re.IGNORECASE)
"""Folders and files of a tree whose names tell no case from another."""
NAME_ENDING = re.compile(r"(_ct|_0000)$", re.IGNORECASE)
"""What BIDS and nnU-Net put behind a case's name."""
MOST_ID_BYTES = 230
"""A case's longest file name is its id and 20 more; file systems take 255."""
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
    """Find the scans in files and folders.

    A folder with scans on its first level is a flat one; another is a tree, searched to its bottom. In a
    tree a case is named after its path: `s0001/ct.nii.gz` is s0001, `a/b/scan.nii` a_b_scan.

    Raises:
        UsageError: an input does not exist, is no scan by its name, or nothing was found at all.
    """
    inputs, notes = tuple(inputs), list[str]()
    by_id: dict[str, list[Path]] = defaultdict(list)
    for path in inputs:
        for scan, case_id in _scans_of(tidy_path(path), notes).items():
            if scan not in by_id[case_id]:
                by_id[case_id].append(scan)
    if not by_id:
        places = ", ".join(str(path) for path in inputs)
        msg = f"no scan in {places}; expected files ending in {', '.join(SCAN_SUFFIXES)}"
        raise UsageError(msg)
    found = [_judge(case_id, files) for case_id, files in sorted(by_id.items())]
    folded = Counter(case_id.casefold() for case_id in by_id)
    twins = [case_id for case_id in sorted(by_id) if folded[case_id.casefold()] > 1]
    if twins:
        notes.append(
            f"one folder on macOS and Windows, where case does not count: {', '.join(twins)}"
        )
    cases = tuple(item for item in found if isinstance(item, Case))
    return Discovery(
        cases, tuple(item for item in found if isinstance(item, Refusal)), tuple(notes)
    )


def remembered_cases(output: Path) -> tuple[Case, ...]:
    """Find the cases of an output folder, with their scans as the last run knew them.

    Raises:
        UsageError: the folder cannot be looked into.
    """
    try:
        folders = case_folders(output)
    except FileNotFoundError:
        folders = ()
    except OSError as error:
        msg = f"cannot look into {output}: {error.strerror}; check its permissions"
        raise UsageError(msg) from error
    return tuple(Case(folder.case_id, _remembered_image(folder)) for folder in folders)


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
    return not _fault_of(case_id)


def _fault_of(case_id: str) -> str:
    """Say what is wrong with a name; "" if nothing is."""
    if case_id.casefold() in RESERVED_IDS:
        return "would take the place of that file of the results"
    if case_id.startswith("."):
        return "begins with a dot, which hides it among the results or leads out of them"
    try:
        n_bytes = len(os.fsencode(case_id))
    except UnicodeEncodeError as error:
        return f"cannot be written in {error.encoding}, the encoding of names here"
    if n_bytes > MOST_ID_BYTES:
        return (
            f"is {n_bytes} bytes long; its results' names would be too long beyond {MOST_ID_BYTES}"
        )
    return ""


def scan_suffix(path: Path) -> str:
    """Return the part of the name that marks a scan ("" if none), as spelled."""
    lower = path.name.lower()
    known = (*SCAN_SUFFIXES, SERIES_SUFFIX)
    length = next((len(suffix) for suffix in known if lower.endswith(suffix)), 0)
    return path.name[len(path.name) - length :]


def _scans_of(path: Path, notes: list[str]) -> dict[Path, str]:
    """Return the scans of one input, and how their cases are called."""
    if os.path.isdir(path):
        scans = scans_on_first_level(path, notes)
        deeper = scans_below(path)
        if scans and deeper:
            some = next(iter(deeper)).relative_to(path)
            notes.append(
                f"{path} holds scans itself, so {len(deeper)} deeper one(s), as {some}, were left aside; "
                "name their folders as inputs"
            )
        return {scan: case_id_of(scan) for scan in scans} or deeper
    if not os.path.isfile(path):
        msg = f"no such file or folder: {path}; expected a scan or a folder of scans"
        raise UsageError(msg)
    return {path: case_id_of(path)}


def scans_on_first_level(folder: Path, notes: list[str]) -> list[Path]:
    """Return the scans that lie in a folder itself; what is left aside is noted.

    Raises:
        UsageError: the folder cannot be read.
    """
    try:
        items = sorted(folder.iterdir())
    except OSError as error:
        msg = f"cannot look into {folder}: {error.strerror}; check its permissions"
        raise UsageError(msg) from error
    found = [item for item in items if _is_scan_by_name(item)]
    label_maps = [item for item in found if _is_label_map_by_name(item)]
    if label_maps:
        names = ", ".join(item.name for item in label_maps)
        notes.append(f"left aside as label maps, not scans, by their names: {names}")
    return [item for item in found if item not in label_maps]


def scans_below(root: Path) -> dict[Path, str]:
    """Return the scans of a tree, below its first level, and how their cases are called.

    Left out are label maps, results of earlier runs, and hidden folders; in a BIDS data set, what is
    no CT. A folder that links lead to several times is searched once.
    """
    found: list[Path] = []
    seen = {os.path.realpath(item) for item in (root, *root.parents)}
    for place, folders, names in os.walk(root, followlinks=True):
        here = Path(place)
        if here != root and {STATUS_FILE, MANIFEST_FILE} & set(names):
            folders.clear()
            continue
        folders[:] = [
            name
            for name in sorted(folders, key=lambda name: ((here / name).is_symlink(), name))
            if not name.startswith(".") and not NOT_SCANS.fullmatch(name)
            if _add(seen, os.path.realpath(here / name))
        ]
        items = [here / name for name in sorted(names)] if here != root else []
        found += [x for x in items if _is_scan_by_name(x) and not _is_label_map_by_name(x)]
    if os.path.isfile(root / "dataset_description.json"):
        found = [item for item in found if _stem(item).lower().endswith("_ct")]
    ids = {item: _id_in_tree(item.relative_to(root)) for item in found}
    uses = Counter(ids.values())
    return {
        item: case_id if uses[case_id] == 1 else "_".join(_parts(item.relative_to(root)))
        for item, case_id in ids.items()
    }


def _add(seen: set[str], place: str) -> bool:
    """Tell whether a place is new, and remember it."""
    new = place not in seen
    seen.add(place)
    return new


def _is_scan_by_name(path: Path) -> bool:
    suffix = scan_suffix(path)
    return bool(suffix) and len(path.name) > len(suffix) and not path.name.startswith("._")


def _is_label_map_by_name(path: Path) -> bool:
    return _stem(path).lower().endswith(LABEL_MAP_ENDINGS)


def _stem(path: Path) -> str:
    return path.name[: len(path.name) - len(scan_suffix(path))]


def _parts(path: Path) -> list[str]:
    return [*path.parts[:-1], _stem(path)]


def _id_in_tree(path: Path) -> str:
    """Name a case after its path in a tree: BIDS names are unique by themselves, others by their folders."""
    name = NAME_ENDING.sub("", _stem(path))
    parts = [name] if name.startswith("sub-") else [*path.parts[:-1], name]
    return "_".join([part for part in parts if not UNNAMED.fullmatch(part)] or _parts(path))


def _judge(case_id: str, files: list[Path]) -> Case | Refusal:
    first = files[0]
    no_text = why_no_text(str(first))
    if no_text:
        return Refusal(_spelled(case_id), Path(_spelled(str(first))), "usage", no_text)
    fault = _fault_of(case_id)
    if fault:
        return Refusal(case_id, first, "usage", f"the name {case_id!r} {fault}; rename the scan")
    if len(files) > 1:
        # Not only ambiguous: asked for a.nii, some readers open a.nii.gz beside it.
        names = " and ".join(str(item) for item in files)
        message = f"{names} would both be case {case_id!r}; rename or remove one of them"
        return Refusal(case_id, first, "ambiguous", message)
    if os.path.isdir(first):
        message = f"{first} is a folder named like a scan; expected an image file; rename it"
        return Refusal(case_id, first, "unreadable", message)
    if not os.path.isfile(first):
        message = f"{first} is a link to nothing, or no regular file; expected an image file"
        return Refusal(case_id, first, "unreadable", message)
    twin = _sibling_of_other_suffix(first, case_id)
    if twin is not None:
        message = (
            f"{twin.name} lies beside {first.name}; some readers take one for the other; move one"
        )
        return Refusal(case_id, first, "ambiguous", message)
    return Case(case_id, first)


def why_no_text(name: str) -> str:
    """Say why a name is no text that results can be named after; "" where it is one.

    Python smuggles bytes that are none of the system's encoding through as surrogates.
    """
    if not any("\ud800" <= letter <= "\udfff" for letter in name):
        return ""
    encoding = sys.getfilesystemencoding()
    cure = "rename it" if encoding == "utf-8" else "set PYTHONUTF8=1"
    return f"{_spelled(name)} is no valid {encoding}, so no result can be named after it; {cure}"


def _spelled(name: str) -> str:
    return os.fsencode(name).decode(sys.getfilesystemencoding(), "backslashreplace")


def _sibling_of_other_suffix(scan: Path, case_id: str) -> Path | None:
    """Return a.nii.gz beside a.nii or the reverse, also if only one of them was asked for."""
    others = {".nii": ".nii.gz", ".nii.gz": ".nii"}
    other = others.get(scan_suffix(scan).lower())
    twin = scan.with_name(f"{case_id}{other}") if other else None
    return twin if twin is not None and os.path.exists(twin) else None
