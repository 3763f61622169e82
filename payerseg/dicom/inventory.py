"""Everything a folder, zip or file holds of DICOM, and what is to be done with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pydicom

from payerseg.dicom.geometry import Problem
from payerseg.dicom.headers import DECODING_ERRORS, Frame, quiet, read_frames
from payerseg.dicom.pixels import read_pixels, to_hounsfield
from payerseg.dicom.selection import BEST, Choice, Decision, decide
from payerseg.dicom.source import DIRECTORY_FILE, USUAL_ENDINGS, DicomSource
from payerseg.dicom.volumes import FoundVolume, find_volumes
from payerseg.domain.series_reference import SeriesReference
from payerseg.errors import InputError, UnreadableScan
from payerseg.imaging.scan_record import Note

Tell = Callable[[int, int], None]
_TELL_EVERY = 50


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

    def decide(self, wanted: str = BEST, *, fill_gaps: bool = False) -> list[Decision]:
        """Decide about every volume, see `selection.decide`."""
        return decide(self.volumes, wanted, fill_gaps=fill_gaps)

    def reference(self, decision: Decision) -> SeriesReference:
        """Return which files are a volume."""
        frames: dict[str, list[int]] = {}
        for frame in decision.volume.frames:
            if frame.index is not None:
                frames.setdefault(frame.member, []).append(frame.index)
        kept = {name: tuple(sorted(indices)) for name, indices in sorted(frames.items())}
        notes = [
            (note.code, note.message, note.review)
            for note in (*decision.volume.notes, *decision.notes)
        ]
        members = decision.volume.members
        return SeriesReference(self.source, members, kept, decision.reason, tuple(notes))


def take_inventory(source: Path, tell: Tell | None = None) -> Inventory:
    """Read the headers of all DICOM files, and the pixels of slices that share a place.

    Args:
        source: absolute path of a folder, zip or file.
        tell: called with (files done, files in all).

    Raises:
        UnreadableScan: the source itself cannot be opened.
    """
    frames: list[Frame] = []
    lost: dict[str, str] = {}
    n_other = n_without_image = 0
    remarks: list[str] = []
    with DicomSource(source) as opened:
        names = opened.names()
        for done, name in enumerate(names):
            if tell is not None and done % _TELL_EVERY == 0:
                tell(done, len(names))
            if PurePosixPath(name).name.upper() == DIRECTORY_FILE:
                lost |= _absent_files(opened, name, names)
                continue
            try:
                found = _read_member(opened, name)
            except UnreadableScan as error:
                lost[name] = str(error)
                continue
            if found is not None:
                frames += found
                n_without_image += not found
            elif name.lower().endswith(USUAL_ENDINGS):
                lost[name] = f"{name} holds no DICOM (empty, or overwritten?); copy it again"
            else:
                n_other += 1
        volumes = find_volumes(frames, _values_in(opened))
        remarks += opened.left_aside
    if lost:
        message = f"{len(lost)} DICOM file(s) are damaged, unreadable or not there"
        remarks.append(f"{message}, e.g. {next(iter(lost.values()))}")
    if n_without_image:
        remarks.append(f"{n_without_image} DICOM file(s) without an image (reports, structures)")
    if n_other:
        remarks.append(f"{n_other} file(s) are not DICOM")
    return Inventory(source, tuple(_beside_lost(v, lost) for v in volumes), tuple(remarks))


def the_series(source: Path, wanted: str = BEST, *, fill_gaps: bool = False) -> SeriesReference:
    """Choose the one series of a source as `payerseg run` does; one that is refused says why when read.

    Args:
        source: absolute path of a folder, zip or file.
        wanted: as in `selection.decide`.
        fill_gaps: missing slices are no obstacle.

    Raises:
        UnreadableScan: nothing in it is a CT series, or it cannot be opened.
        InputError: more than one series would be taken.
    """
    inventory = take_inventory(source)
    decisions = inventory.decide(wanted, fill_gaps=fill_gaps)
    taken = [decision for decision in decisions if decision.choice is not Choice.LEFT]
    if not taken:
        reasons = [f"series {d.volume.number}: {d.reason}" for d in decisions]
        why = "; ".join([*reasons, *inventory.remarks]) or "nothing in it is DICOM"
        msg = f"no CT series in {source}: {why}; expected a scan file, or DICOM files of one scan"
        raise UnreadableScan(msg)
    if len(taken) > 1:
        numbers = ", ".join(decision.volume.number for decision in taken)
        msg = (
            f"{source} holds {len(taken)} scans (series {numbers}); expected one: give the folder of one "
            "study, set driver.dicom_series to one series, or use `payerseg run` for all"
        )
        raise InputError(msg)
    return inventory.reference(taken[0])


def inventory_facts(inventory: Inventory, wanted: str, *, fill_gaps: bool) -> dict[str, Any]:
    """Return what the driver needs of an inventory, plain JSON, nothing of it free text of a header."""
    found, left = [], []
    for decision in inventory.decide(wanted, fill_gaps=fill_gaps):
        volume = decision.volume
        if decision.choice is Choice.LEFT:
            left.append(f"series {volume.number}: {decision.reason}")
            continue
        kind = volume.problem.kind if volume.problem is not None else ""
        reference = inventory.reference(decision)
        found.append(
            {
                "number": volume.number,
                "members": list(reference.members),
                "frames": {name: list(kept) for name, kept in reference.frames.items()},
                "reason": reference.reason,
                "notes": [list(note) for note in reference.notes],
                # what is no CT cannot be a 3D scan of one
                "kind": ("not_3d" if kind == "not_ct" else kind)
                if decision.choice is Choice.REFUSED
                else "",
            }
        )
    return {"found": found, "left": left, "remarks": list(inventory.remarks)}


def _read_member(source: DicomSource, name: str) -> list[Frame] | None:
    """Return the frames of a file; None if it is not DICOM."""
    if not source.is_dicom(name):
        return None
    with source.open(name) as file:
        return read_frames(file, name, source.size_bytes(name))


def _values_in(source: DicomSource) -> Callable[[Frame], np.ndarray | None]:
    def values(frame: Frame) -> np.ndarray | None:
        try:
            with source.open(frame.member) as file:
                return to_hounsfield(read_pixels(file, [frame])[0], frame)
        except UnreadableScan:
            return None

    return values


def _beside_lost(volume: FoundVolume, lost: Mapping[str, str]) -> FoundVolume:
    """Say of a volume that files in its folders could not be read: they may be slices of it."""
    folders = {PurePosixPath(name).parent for name in volume.members}
    beside = [why for name, why in lost.items() if PurePosixPath(name).parent in folders]
    problem = volume.problem
    if not beside or (problem is not None and problem.kind != "bad_geometry"):
        return volume
    message = f"{len(beside)} file(s) beside its slices could not be used, e.g. {beside[0]}"
    if problem is None:
        note = Note("dicom_lost_files", f"{message}; are slices of it among them?", review=True)
        return replace(volume, notes=(*volume.notes, note))
    # without these files the places say nothing about the scan
    return replace(volume, problem=Problem("unreadable", message, problem.fillable))


def _absent_files(source: DicomSource, name: str, names: Sequence[str]) -> dict[str, str]:
    """Compare a DICOMDIR with what is there; the files themselves are found without it."""
    try:
        with source.open(name) as file, quiet():
            data = pydicom.dcmread(file, specific_tags=["DirectoryRecordSequence"])
            records = data.get("DirectoryRecordSequence") or []
            listed = [_file_id(record) for record in records if "ReferencedFileID" in record]
    except (*DECODING_ERRORS, UnreadableScan):
        return {name: f"{name} cannot be read; the files were looked for without it"}
    there = {item.upper() for item in names}
    paths = [(PurePosixPath(name).parent / item).as_posix() for item in listed]
    absent = [path for path in paths if path.upper() not in there]
    return {path: f"{path} is listed in {name} but not there" for path in absent}


def _file_id(record: pydicom.Dataset) -> str:
    value = record.ReferencedFileID
    return str(value) if isinstance(value, str) else "/".join(map(str, value))
