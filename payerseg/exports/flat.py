"""One case as three loose files that any tool reads; without numpy, as the driver writes them too."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from payerseg.atomic import replacing, write_text

LabelledPoint = tuple[int, tuple[float, float, float]]
"""VerSe label, and (x, y, z) LPS mm in the physical space of the scan."""


def write_flat(
    case_id: str, segmentation: Path, points: Iterable[LabelledPoint], folder: Path
) -> list[Path]:
    """Write `<case>_segmentation.nii.gz`, `<case>_landmarks.csv` and `.json`; return them.

    The mask is a copy, made again only where it is another: a link would let an edit reach the original.
    """
    mask, table, plain = flat_files(case_id, folder)
    there, wanted = mask.stat() if mask.is_file() else None, segmentation.stat()
    if there is None or _stamp(there) != _stamp(wanted):
        with replacing(mask) as partial:
            shutil.copy2(segmentation, partial)
    rows = [(label, *position) for label, position in points]
    head = ("label", "X", "Y", "Z")
    write_text(table, "".join(",".join(map(str, row)) + "\n" for row in (head, *rows)))
    entries = [dict(zip(head, row, strict=True)) for row in rows]
    write_text(plain, json.dumps(entries, indent=1) + "\n")
    return [mask, table, plain]


def remove_flat(case_id: str, folder: Path) -> None:
    """Take away the copies of a result that is no longer true."""
    for path in flat_files(case_id, folder):
        path.unlink(missing_ok=True)


def flat_files(case_id: str, folder: Path) -> tuple[Path, Path, Path]:
    """Return where the mask, the table and its JSON twin of a case lie."""
    names = ("segmentation.nii.gz", "landmarks.csv", "landmarks.json")
    mask, table, plain = (folder / f"{case_id}_{name}" for name in names)
    return mask, table, plain


def _stamp(stat: os.stat_result) -> tuple[int, int]:
    return stat.st_size, stat.st_mtime_ns
