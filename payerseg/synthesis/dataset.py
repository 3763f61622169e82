"""The data set of synthetic scans: which scan is asked for, and how it is written for training to read."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from payerseg import records
from payerseg.atomic import write_text
from payerseg.config.model_card import joined_sources
from payerseg.domain.landmarks import Landmarks
from payerseg.domain.volume import Volume
from payerseg.errors import DatasetError
from payerseg.imaging.files import write_volume
from payerseg.synthesis.library import (
    VERTEBRAE_FILE,
    ShapeLibrary,
    joined,
    load_library,
    read_library,
)
from payerseg.synthesis.phantom import phantom_library
from payerseg.synthesis.scans import (
    BODY_3MM,
    NEGATIVES,
    Extent,
    SyntheticScan,
    synthesize_from_spine,
    synthesize_negative,
    synthesize_spine,
)

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


@dataclass(frozen=True, slots=True)
class ScanRecipe:
    """One scan to make.

    Attributes:
        variant: one of `library.VARIANTS` or `scans.NEGATIVES`.
        view: "body", "spine" (whole spine, 150 mm wide) or "one" (one label map's vertebrae).
        spacing_mm: voxel size; None = 3 for a body, else 1.
        seed: decides everything.
    """

    variant: str
    view: str
    spacing_mm: float | None
    seed: int

    @property
    def case_id(self) -> str:
        """The name of the scan in its data set."""
        return f"synth_{self.variant}_{self.view}_{self.seed:06d}"

    def write(
        self, library: ShapeLibrary, out: Path, origins: Mapping[str, ShapeOrigin] | None = None
    ) -> bool:
        """Make the scan and write it; False where the data set holds it already.

        Args:
            library: shapes.
            out: the data set.
            origins: by name of label map; one that is not there is named by its folder.
        """
        folder = DatasetFolder(out)
        if folder.holds(self.case_id):
            return False
        note = f"synthetic, variant {self.variant}, view {self.view}, seed {self.seed}"
        if self.variant in NEGATIVES:
            ct = synthesize_negative(self.variant, self.seed, spacing_mm=self.spacing_mm or 2.5)
            folder.add_negative(self.case_id, ct, note)
        else:
            scan = self.make(library)
            # organs may come from any torso, so each of them is named
            used = {name.split(":")[0] for name in scan.notes.values()}
            used |= {torso.source for torso in library.torsos}
            named = {name: (origins or {}).get(name, ShapeOrigin(name)) for name in sorted(used)}
            folder.add(self.case_id, scan, note, named)
        return True

    def make(self, library: ShapeLibrary) -> SyntheticScan:
        """Make the scan (of a spine)."""
        if self.view == "one":
            rng = np.random.default_rng([self.seed, 1])
            spine = library.spines[int(rng.integers(len(library.spines)))]
            return synthesize_from_spine(spine, library, self.seed, self._extent(Extent()))
        if self.view == "spine":
            return synthesize_spine(library, self.seed, self.variant, self._extent(Extent()))
        extent = (
            None if self.spacing_mm in (None, BODY_3MM.spacing_mm[0]) else self._extent(BODY_3MM)
        )
        return synthesize_spine(library, self.seed, self.variant, extent)

    def _extent(self, extent: Extent) -> Extent:
        if self.spacing_mm is None:
            return extent
        return replace(extent, spacing_mm=(self.spacing_mm,) * 3)


def gather_library(paths: Iterable[Path]) -> ShapeLibrary:
    """Read label-map folders, folders of such folders and packed files; none at all = the phantom.

    Raises:
        DatasetError: a path holds no label map.
    """
    folders, packed = [], []
    for path in paths:
        if path.is_file():
            packed.append(load_library(path))
        elif (path / VERTEBRAE_FILE).is_file():
            folders.append(path)
        else:
            below = sorted(p.parent for p in path.glob(f"*/{VERTEBRAE_FILE}"))
            if not below:
                msg = f"{path} holds no {VERTEBRAE_FILE}, itself or one folder below"
                raise DatasetError(msg)
            folders += below
    if folders:
        packed.append(read_library(folders))
    return joined(packed) if packed else phantom_library()
