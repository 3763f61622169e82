"""Read a folder with a CATALOG.csv: ct/, openkbp/, landmarks/*.json, masks/*_seg.nii.gz."""

from __future__ import annotations

import csv
import re
from pathlib import Path

from payerseg.datasets.cases import CaseFiles
from payerseg.errors import DatasetError

CATALOG = "CATALOG.csv"
IMAGE_FOLDERS = ("ct", "openkbp")
_COLUMNS = {"name", "folder", "split", "source", "licence"}
_VERSE_SUBJECT = re.compile(r"verse\d+")


def catalog_cases(root: Path) -> list[CaseFiles]:
    """Return the catalogue's scans; rows of label maps without a CT are not scans.

    Raises:
        DatasetError: no catalogue, a column missing, a split that is not train or val.
    """
    out = []
    for row in read_catalog(root):
        if row["folder"] not in IMAGE_FOLDERS:
            continue
        name = row["name"]
        points = root / "landmarks" / f"{name}.json"
        masks = root / "masks" / f"{name}_seg.nii.gz"
        out.append(
            CaseFiles(
                case_id=name,
                patient_id=patient_of(name),
                image=root / row["folder"] / f"{name}.nii.gz",
                landmark_file=points if points.is_file() else None,
                landmark_format="lps_json",
                labels=masks if masks.is_file() else None,
                split=row["split"],  # type: ignore[arg-type]
                source=row["source"],
                licence=row["licence"],
                note=row.get("note", ""),
            )
        )
    return out


def read_catalog(root: Path) -> list[dict[str, str]]:
    """Return all rows of the catalogue.

    Raises:
        DatasetError: no catalogue, a column missing, a split that is not train or val.
    """
    path = root / CATALOG
    if not path.is_file():
        msg = f"{root} holds no {CATALOG}"
        raise DatasetError(msg)
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        missing = _COLUMNS - set(reader.fieldnames or ())
        if missing:
            msg = f"{path} lacks the columns {sorted(missing)}"
            raise DatasetError(msg)
        rows = list(reader)
    wrong = [row["name"] for row in rows if row["split"] not in ("train", "val")]
    if wrong:
        msg = f"{path}: {wrong[0]} has another split than train or val"
        raise DatasetError(msg)
    return rows


def patient_of(name: str) -> str:
    """Return the patient of an item: parts _a, _b are one, and so are VerSe's renamings."""
    subjects = _VERSE_SUBJECT.findall(name)
    if subjects:
        return subjects[-1]  # "verse400_verse090" is scan verse090 under a later number
    return re.sub(r"_[ab]$", "", name)
