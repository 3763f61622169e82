"""Write synthetic scans as a data set that training reads: images/, segmentations/, landmarks/."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from payerseg import records
from payerseg.atomic import write_text
from payerseg.config.model_card import joined_sources
from payerseg.domain.landmarks import Landmarks
from payerseg.domain.volume import Volume
from payerseg.errors import DatasetError
from payerseg.imaging.files import write_volume
from payerseg.synthesis.scans import SyntheticScan

FACTS_FILE = "cases.json"
IMAGES, MASKS, POINTS = "images", "segmentations", "landmarks"


@dataclass(frozen=True, slots=True)
class ShapeOrigin:
    """Where a label map is from, as its licence asks it to be named.

    Attributes:
        source, licence: go onto the model card of whatever is trained on the shapes.
    """

    source: str
    licence: str = ""


def read_origins(table: Path) -> dict[str, ShapeOrigin]:
    """Read a CSV with the columns name (of the label map's folder), source and licence.

    Raises:
        DatasetError: a column is missing.
    """
    with table.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        missing = {"name", "source", "licence"} - set(reader.fieldnames or ())
        if missing:
            msg = f"{table} lacks the columns {sorted(missing)}; expected name, source, licence"
            raise DatasetError(msg)
        return {row["name"]: ShapeOrigin(row["source"], row["licence"]) for row in reader}


@dataclass(frozen=True, slots=True)
class DatasetFolder:
    """A data set being written; each scan is complete before the next begins.

    Attributes:
        root: holds `images/ID.nii.gz`, `segmentations/ID_seg.nii.gz`, `landmarks/ID.csv` (label, X, Y, Z;
            LPS mm) and `cases.json` (what each scan was made from).
    """

    root: Path

    def holds(self, case_id: str) -> bool:
        """Tell whether a scan was written before."""
        return case_id in self._facts()

    def add(
        self, case_id: str, scan: SyntheticScan, note: str, origins: Mapping[str, ShapeOrigin]
    ) -> None:
        """Write one scan; its facts last, so that a scan in `cases.json` is whole.

        Args:
            case_id: names the files.
            scan: to write.
            note: how it was made.
            origins: by name of label map, of all whose shapes may be in the scan.
        """
        unmarked = [name for name in scan.cut if name not in {v.name for v in scan.landmarks}]
        facts: dict[str, Any] = {"partial": unmarked, "note": note}
        facts["ribs"] = {vertebra.name: list(sides) for vertebra, sides in scan.ribs.items()}
        if scan.sacrum_mm is not None:
            facts["sacrum"] = [round(float(v), 2) for v in scan.sacrum_mm]
        facts |= {"source": joined_sources(origin.source for origin in origins.values())}
        facts |= {"licence": joined_sources(origin.licence for origin in origins.values())}
        self.write(case_id, scan.ct, scan.landmarks, facts, scan.labels)

    def add_negative(self, case_id: str, ct: Volume, note: str) -> None:
        """Write a volume without a spine: an image, an empty table, no mask."""
        self.write(case_id, ct, Landmarks(), {"partial": [], "source": "numbers", "note": note})

    def write(
        self,
        case_id: str,
        ct: Volume,
        landmarks: Landmarks,
        facts: Mapping[str, Any],
        labels: Volume | None = None,
    ) -> None:
        """Write any scan; its facts last.

        Args:
            case_id: names the files.
            ct: (z, y, x) HU.
            landmarks: its vertebrae; empty for a volume without a spine.
            facts: what `cases.json` says of it.
            labels: (z, y, x) VerSe numbers; None = no masks.
        """
        write_volume(ct, self._path(IMAGES, f"{case_id}.nii.gz"))
        if labels is not None:
            write_volume(labels, self._path(MASKS, f"{case_id}_seg.nii.gz"))
        with self._path(POINTS, f"{case_id}.csv").open("w", newline="", encoding="utf-8") as file:
            rows = csv.writer(file)
            rows.writerow(["label", "X", "Y", "Z"])
            for vertebra, mark in landmarks.items():
                rows.writerow([vertebra.verse_label, *(f"{v:.3f}" for v in mark.position_mm)])
        every = self._facts() | {case_id: facts}
        write_text(self.root / FACTS_FILE, records.to_json(every))

    def _path(self, folder: str, name: str) -> Path:
        (self.root / folder).mkdir(parents=True, exist_ok=True)
        return self.root / folder / name

    def _facts(self) -> dict[str, dict]:
        path = self.root / FACTS_FILE
        remedy = "expected a table that this command wrote"
        return records.read(dict[str, dict[str, Any]], path, remedy, DatasetError) or {}
