"""A folder → its cases: which layout it is, and what the marks of a case say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from payerseg.datasets.cases import (
    CaseFiles,
    Dataset,
    LevelFacts,
    TrainingCase,
    possible_neighbours,
)
from payerseg.datasets.label_schemes import C1Convention, to_dens_point
from payerseg.datasets.layouts import (
    CATALOG,
    catalog_cases,
    is_verse_folder,
    release_of,
    simple_cases,
    verse_cases,
)
from payerseg.datasets.point_files import (
    CsvSpace,
    VerseConvention,
    read_csv_points,
    read_level_facts,
    read_lps_json,
    read_verse_points,
)
from payerseg.domain.landmarks import Landmarks
from payerseg.domain.vertebra import Vertebra
from payerseg.errors import DatasetError
from payerseg.imaging.files import read_volume

Layout = Literal["auto", "catalog", "simple", "verse"]


@dataclass(frozen=True, slots=True)
class ReadingRules:
    """What the files themselves do not say.

    Attributes:
        csv_space: of `landmarks/*.csv`.
        verse: frame of centroid lists.
        c1: where the data set puts C1; None = ours, but VerSe 2020's for a folder of that name.
    """

    csv_space: CsvSpace = "lps_mm"
    verse: VerseConvention = "auto"
    c1: C1Convention | None = None


DEFAULT_RULES = ReadingRules()
_READERS: dict[str, Callable[[Path], list[CaseFiles]]] = {
    "catalog": catalog_cases,
    "simple": simple_cases,
    "verse": verse_cases,
}


def discover(root: Path, layout: Layout = "auto") -> Dataset:
    """List the cases of a folder without opening an image.

    Raises:
        DatasetError: no known layout, or two at once; whatever the layout's reader says.
    """
    if not root.is_dir():
        msg = f"{root} is not a folder; expected a data set"
        raise DatasetError(msg)
    name = _layout_of(root) if layout == "auto" else layout
    cases = sorted(_READERS[name](root), key=lambda case: case.case_id)
    return Dataset(root, name, tuple(cases))


def read_case(files: CaseFiles, rules: ReadingRules = DEFAULT_RULES) -> TrainingCase:
    """Read a case's marks.

    Raises:
        DatasetError: the marks cannot be read, or not without guessing.
    """
    landmarks, partial = _read_marks(files, rules)
    if landmarks is not None:
        c1 = rules.c1 or _c1_convention(files)
        had_c1 = Vertebra.C1 in landmarks
        landmarks = to_dens_point(landmarks, c1)
        if partial is None:
            partial = files.partial
        if partial is None:
            partial = possible_neighbours(landmarks)
        if had_c1 and Vertebra.C1 not in landmarks:
            partial = frozenset(partial) | {Vertebra.C1}
    return TrainingCase(
        case_id=files.case_id,
        patient_id=files.patient_id,
        image=files.image,
        landmarks=landmarks,
        labels=files.labels,
        partial=frozenset(partial or files.partial or ()),
        split=files.split,
        source=files.source,
        licence=files.licence,
        facts=_read_facts(files),
    )


def _read_facts(files: CaseFiles) -> LevelFacts:
    if files.landmark_file is not None and files.landmark_format == "lps_json":
        return read_level_facts(files.landmark_file)
    return files.facts or LevelFacts()


def _read_marks(
    files: CaseFiles, rules: ReadingRules
) -> tuple[Landmarks | None, frozenset[Vertebra] | tuple[Vertebra, ...] | None]:
    path = files.landmark_file
    if path is None:
        return None, None
    if files.landmark_format == "lps_json":
        return read_lps_json(path)
    if files.landmark_format == "csv":
        grid = read_volume(files.image).grid if rules.csv_space == "voxel" else None
        return read_csv_points(path, grid, rules.csv_space), None
    grid = read_volume(files.image).grid
    labels = read_volume(files.labels) if files.labels else None
    return read_verse_points(path, grid, rules.verse, labels), None


def _c1_convention(files: CaseFiles) -> C1Convention:
    verse = files.landmark_format == "verse" and files.landmark_file is not None
    return "verse2020" if verse and release_of(files.image) == "2020" else "dens"


def _layout_of(root: Path) -> str:
    found = []
    if (root / CATALOG).is_file():
        found.append("catalog")
    if (root / "images").is_dir():
        found.append("simple")
    if not found and is_verse_folder(root):
        found.append("verse")
    if len(found) == 1:
        return found[0]
    what = " and ".join(found) if found else "no known layout"
    msg = (
        f"{root} holds {what}; expected one of: images/ with landmarks/ and segmentations/, "
        f"a VerSe/BIDS folder, or {CATALOG}"
    )
    raise DatasetError(msg)
