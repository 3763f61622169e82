"""The one series of a folder, zip or file, for a caller that takes one scan."""

from __future__ import annotations

from pathlib import Path

from payerseg.dicom.inventory import take_inventory
from payerseg.dicom.selection import BEST, Choice
from payerseg.domain.series_reference import SeriesReference
from payerseg.errors import InputError, UnreadableScan


def the_series(source: Path, wanted: str = BEST, *, fill_gaps: bool = False) -> SeriesReference:
    """Choose as `payerseg run` does, see `selection.decide`; a series that is refused says why when read.

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
