"""Everything a folder, zip or file holds of DICOM, and what is to be done with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pydicom

from payerseg.dicom.headers import DECODING_ERRORS, Frame, quiet, read_frames
from payerseg.dicom.selection import Choice, Decision, decide
from payerseg.dicom.signature import DIRECTORY_FILE
from payerseg.dicom.source import DicomSource
from payerseg.dicom.volumes import FoundVolume, find_volumes
from payerseg.domain.series_reference import SeriesReference
from payerseg.errors import UnreadableScan

Tell = Callable[[int, int], None]
_TELL_EVERY = 50
_MAX_EXAMPLES = 3


@dataclass(frozen=True, slots=True)
class Inventory:
    """What was found.

    Attributes:
        source: folder, zip or file.
        volumes: of every series, good or not.
        remarks: what else was there and what could not be read, for people.
    """

    source: Path
    volumes: tuple[FoundVolume, ...]
    remarks: tuple[str, ...]

    def decide(self, wanted: str, *, fill_gaps: bool = False) -> list[Decision]:
        """Decide about every volume, see `selection.decide`."""
        return decide(self.volumes, wanted, fill_gaps=fill_gaps)

    def reference(self, decision: Decision) -> SeriesReference:
        """Return which files are a volume."""
        frames: dict[str, list[int]] = {}
        for frame in decision.volume.frames:
            if frame.index is not None:
                frames.setdefault(frame.member, []).append(frame.index)
        kept = {name: tuple(sorted(indices)) for name, indices in sorted(frames.items())}
        reason = "; ".join([decision.reason, *(note.message for note in decision.volume.notes)])
        return SeriesReference(self.source, decision.volume.members, kept, reason)


def take_inventory(source: Path, tell: Tell | None = None) -> Inventory:
    """Read the headers of all DICOM files.

    Args:
        source: absolute path of a folder, zip or file.
        tell: called with (files done, files in all).

    Raises:
        UnreadableScan: the source itself cannot be opened.
    """
    tell = tell or _nobody
    frames: list[Frame] = []
    damaged: list[str] = []
    n_other = n_without_image = 0
    remarks: list[str] = []
    with DicomSource(source) as opened:
        names = opened.names()
        for done, name in enumerate(names):
            if done % _TELL_EVERY == 0:
                tell(done, len(names))
            if PurePosixPath(name).name.upper() == DIRECTORY_FILE:
                remarks += _absent_files(opened, name, names)
                continue
            if not opened.is_dicom(name):
                n_other += 1
                continue
            try:
                found = _read_member(opened, name)
            except UnreadableScan:
                damaged.append(name)
                continue
            frames += found
            n_without_image += not found
        remarks += opened.left_aside
    remarks += _count_remarks(n_other, n_without_image, damaged)
    return Inventory(source, tuple(find_volumes(frames)), tuple(remarks))


def inventory_facts(inventory: Inventory, wanted: str, *, fill_gaps: bool) -> dict[str, Any]:
    """Return what the driver needs of an inventory, plain JSON, nothing of it free text of a header."""
    decisions = inventory.decide(wanted, fill_gaps=fill_gaps)
    found = []
    for decision in decisions:
        if decision.choice is Choice.LEFT:
            continue
        reference = inventory.reference(decision)
        problem = decision.volume.problem
        refused = decision.choice is Choice.REFUSED
        found.append(
            {
                "number": decision.volume.number,
                "members": list(reference.members),
                "frames": {name: list(kept) for name, kept in reference.frames.items()},
                "reason": reference.reason,
                "kind": failure_kind(problem.kind) if refused and problem is not None else "",
            }
        )
    left = [
        f"series {decision.volume.number}: {decision.reason}"
        for decision in decisions
        if decision.choice is Choice.LEFT
    ]
    return {"found": found, "left": left, "remarks": list(inventory.remarks)}


def failure_kind(problem_kind: str) -> str:
    """Return the status kind of a problem; what is no CT cannot be a 3D scan of one."""
    return "not_3d" if problem_kind == "not_ct" else problem_kind


def _read_member(source: DicomSource, name: str) -> list[Frame]:
    with source.open(name) as file:
        return read_frames(file, name, source.size_bytes(name))


def _absent_files(source: DicomSource, name: str, names: Sequence[str]) -> list[str]:
    """Compare a DICOMDIR with what is there; the files themselves are found without it."""
    try:
        with source.open(name) as file, quiet():
            data = pydicom.dcmread(file, specific_tags=["DirectoryRecordSequence"])
            records = data.get("DirectoryRecordSequence") or []
            listed = [_file_id(record) for record in records if "ReferencedFileID" in record]
    except (*DECODING_ERRORS, UnreadableScan):
        return [f"{name} cannot be read; the files were looked for without it"]
    folder = PurePosixPath(name).parent
    there = {item.upper() for item in names}
    missing = sum((folder / item).as_posix().upper() not in there for item in listed)
    return [f"{name} lists {missing} file(s) that are not there"] if missing else []


def _file_id(record: pydicom.Dataset) -> str:
    value = record.ReferencedFileID
    return str(value) if isinstance(value, str) else "/".join(map(str, value))


def _count_remarks(n_other: int, n_without_image: int, damaged: Sequence[str]) -> list[str]:
    remarks = []
    if damaged:
        examples = ", ".join(damaged[:_MAX_EXAMPLES])
        remarks.append(f"{len(damaged)} damaged DICOM file(s) were left out, e.g. {examples}")
    if n_without_image:
        remarks.append(f"{n_without_image} DICOM file(s) without an image (reports, structures)")
    if n_other:
        remarks.append(f"{n_other} file(s) are not DICOM")
    return remarks


def _nobody(done: int, total: int) -> None:
    """Tell nobody."""
