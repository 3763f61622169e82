"""Read a folder with a CATALOG.csv: ct/, openkbp/, landmarks/*.json, masks/*_seg.nii.gz."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

from payerseg import records
from payerseg.datasets.cases import CaseFiles
from payerseg.errors import DatasetError

CATALOG = "CATALOG.csv"
IMAGE_FOLDERS = ("ct", "openkbp")
_VERSE_SUBJECT = re.compile(r"verse\d+")


@dataclass(frozen=True, slots=True)
class CatalogRow:
    """One line of the catalogue, as far as it is used.

    Attributes:
        name: of the item's files.
        folder: they lie in.
        split: of the item.
        source, licence: for model cards.
        note: for people.
    """

    name: str
    folder: str
    split: Literal["train", "val"]
    source: str
    licence: str
    note: str = ""


def catalog_cases(root: Path) -> list[CaseFiles]:
    """Return the catalogue's scans; rows of label maps without a CT are not scans.

    Raises:
        DatasetError: no catalogue, a column missing, a split that is not train or val.
    """
    out = []
    for row in read_catalog(root):
        if row.folder not in IMAGE_FOLDERS:
            continue
        name = row.name
        points = root / "landmarks" / f"{name}.json"
        masks = root / "masks" / f"{name}_seg.nii.gz"
        out.append(
            CaseFiles(
                case_id=name,
                patient_id=patient_of(name),
                image=root / row.folder / f"{name}.nii.gz",
                landmark_file=points if points.is_file() else None,
                landmark_format="lps_json",
                labels=masks if masks.is_file() else None,
                split=row.split,
                source=row.source,
                licence=row.licence,
                note=row.note,
            )
        )
    return out


def read_catalog(root: Path) -> list[CatalogRow]:
    """Return all rows of the catalogue.

    Raises:
        DatasetError: no catalogue, a column missing, a split that is not train or val.
    """
    path = root / CATALOG
    if not path.is_file():
        msg = f"{root} holds no {CATALOG}"
        raise DatasetError(msg)
    names = [field.name for field in fields(CatalogRow)]
    remedy = f"expected a table with the columns {', '.join(names)}"
    with path.open(newline="", encoding="utf-8") as file:
        return [
            records.convert(
                CatalogRow,
                {name: row[name] for name in names if row.get(name) is not None},
                f"{path} line {number}",
                remedy,
                DatasetError,
            )
            for number, row in enumerate(csv.DictReader(file), start=2)
        ]


def patient_of(name: str) -> str:
    """Return the patient of an item: parts _a, _b are one, and so are VerSe's renamings."""
    subjects = _VERSE_SUBJECT.findall(name)
    if subjects:
        return subjects[-1]  # "verse400_verse090" is scan verse090 under a later number
    return re.sub(r"_[ab]$", "", name)
