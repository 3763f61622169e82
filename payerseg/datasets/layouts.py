"""The layouts of data sets that are known.

Catalogue: a `CATALOG.csv` beside `ct/ openkbp/ landmarks/*.json masks/*_seg.nii.gz`.

Simple: `images/ landmarks/*.csv segmentations/*_seg.nii.gz train.txt val.txt`.
`images/ID.nii.gz` decides which cases there are; everything else is optional.
`cases.json`, also optional, may say more per case:
`{"ID": {"patient": "...", "partial": ["T4"], "source": "...", "licence": "...",
"ribs": {"T12": ["rib", "stump"]}, "sacrum": [x, y, z]}}` (left before right; LPS mm).

VerSe / BIDS, the subject-space release and the older challenge release; files belong together by name,
wherever they lie under the folder.
New: `.../rawdata/sub-verse004/sub-verse004_ct.nii.gz`, `.../derivatives/sub-verse004/
sub-verse004_seg-vert_msk.nii.gz` and `..._seg-subreg_ctd.json` (or `_seg-vb_ctd.json`).
Old: `verse004.nii.gz`, `verse004_seg.nii.gz`, `verse004_ctd.json` or `verse004_iso-ctd.json`.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from payerseg import records
from payerseg.datasets.cases import CaseFiles, Split
from payerseg.datasets.point_files import level_facts, vertebra_named
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


CASE_FACTS = "cases.json"
IMAGE_ENDINGS = (".nii.gz", ".nii", ".mha", ".nrrd")


@dataclass(frozen=True, slots=True)
class CaseFacts:
    """What cases.json may say of a case.

    Attributes:
        patient: whose scan; None = every case is a patient.
        partial: vertebrae that are visible without a mark; None = not stated.
        source, licence: for model cards; None = the folder's name, nothing.
        note: for people.
        ribs: vertebra → word for left and right, as `level_facts` reads them.
        sacrum: (x, y, z) LPS mm of the middle of S1.
    """

    patient: str | int | None = None
    partial: tuple[str | int, ...] | None = None
    source: str | None = None
    licence: str | None = None
    note: str = ""
    ribs: Mapping[str, tuple[str | None, str | None]] | None = None
    sacrum: tuple[float, float, float] | None = None


def simple_cases(root: Path) -> list[CaseFiles]:
    """Return the cases under `images/`.

    A case in neither list has no split; a case in both is an error.

    Raises:
        DatasetError: no images, a listed case without image, a case in both lists.
    """
    images = {}
    for path in sorted((root / "images").iterdir()):
        name = without_ending(path.name)
        if name is not None:
            images[name] = path
    if not images:
        msg = f"{root / 'images'} holds no image; expected ID.nii.gz"
        raise DatasetError(msg)
    splits = read_splits(root, set(images))
    facts = read_facts(root)
    return [_case(root, name, path, splits, facts) for name, path in images.items()]


def read_splits(root: Path, known: set[str]) -> dict[str, Split]:
    """Read train.txt, val.txt and test.txt: one case a line, # starts a comment.

    Raises:
        DatasetError: a case without image, or in two lists.
    """
    out: dict[str, Split] = {}
    splits: tuple[Split, ...] = ("train", "val", "test")
    for split in splits:
        path = root / f"{split}.txt"
        if not path.is_file():
            continue
        for line in path.read_text(encoding="utf-8-sig").splitlines():
            name = line.split("#")[0].strip()
            name = without_ending(name) or name
            if not name:
                continue
            if name not in known:
                msg = f"{path} names {name!r}, but images/ holds no such case"
                raise DatasetError(msg)
            if out.get(name, split) != split:
                msg = f"{name!r} is in {out[name]}.txt and in {path.name}; expected one of them"
                raise DatasetError(msg)
            out[name] = split
    return out


def read_facts(root: Path) -> dict[str, CaseFacts]:
    """Read cases.json; {} where there is none.

    Raises:
        DatasetError: it is no such table; says where.
    """
    path = root / CASE_FACTS
    remedy = "expected an object per case with some of patient, partial, source, licence, note, ribs, sacrum"
    found = records.read(dict[str, Any], path, remedy, DatasetError) or {}
    return {
        name: records.convert(CaseFacts, facts, f"{path}, {name}", remedy, DatasetError)
        for name, facts in found.items()
    }


def without_ending(name: str) -> str | None:
    """Return a file name without its image ending, None where it has none."""
    lower = name.lower()
    ending = next((e for e in IMAGE_ENDINGS if lower.endswith(e)), None)
    return name[: -len(ending)] if ending else None


def _case(
    root: Path,
    name: str,
    image: Path,
    splits: Mapping[str, Split],
    facts: Mapping[str, CaseFacts],
) -> CaseFiles:
    points = root / "landmarks" / f"{name}.csv"
    masks = [root / "segmentations" / f"{name}_seg{ending}" for ending in IMAGE_ENDINGS]
    fact, where = facts.get(name, CaseFacts()), f"{root / CASE_FACTS}, {name}"
    partial = None
    if fact.partial is not None:
        named = (vertebra_named(v, where) for v in fact.partial)
        partial = tuple(vertebra for vertebra in named if vertebra is not None)
    return CaseFiles(
        case_id=name,
        patient_id=str(name if fact.patient is None else fact.patient),
        image=image,
        landmark_file=points if points.is_file() else None,
        landmark_format="csv",
        labels=next((path for path in masks if path.is_file()), None),
        split=splits.get(name, ""),
        source=root.resolve().name if fact.source is None else fact.source,
        licence=fact.licence or "",
        partial=partial,
        note=fact.note,
        facts=level_facts({"ribs": fact.ribs, "sacrum": fact.sacrum}, where),
    )


_IMAGE = re.compile(r"^(?P<case>.+?)(_ct)?\.nii(\.gz)?$")
_MASK_ENDINGS = ("_seg-vert_msk.nii.gz", "_seg-vert_msk.nii", "_seg.nii.gz", "_seg.nii")
_POINT_ENDING = re.compile(r"(_seg-[A-Za-z]+)?[_-](iso[-_])?ctd\.json$")
_SPLITS: tuple[tuple[str, Split], ...] = (
    ("validation", "val"),
    ("training", "train"),
    ("train", "train"),
    ("val", "val"),
    ("test", "test"),
)
_RELEASE = re.compile(r"verse(20)?(19|20)(?!\d)", re.IGNORECASE)
SOURCE = "VerSe"
LICENCE = "CC BY-SA 4.0"


def is_verse_folder(root: Path) -> bool:
    """Tell whether a folder holds VerSe masks or centroid lists."""
    return next(_files(root, "*_msk.nii*"), None) is not None or (
        next(_files(root, "*ctd.json"), None) is not None
    )


def verse_cases(root: Path) -> list[CaseFiles]:
    """Return the scans under a folder, each with its mask and centroid list.

    Raises:
        DatasetError: no scan; two masks or two lists for one scan; two scans of one name.
    """
    masks = _by_case(_files(root, "*.nii*"), _mask_case)
    points = _by_case(_files(root, "*ctd.json"), _point_case)
    images = _by_case(_files(root, "*.nii*"), _image_case)
    if not images:
        msg = f"{root} holds no scan; expected *_ct.nii.gz"
        raise DatasetError(msg)
    return [
        CaseFiles(
            case_id=case,
            patient_id=verse_patient(case),
            image=path,
            landmark_file=points.get(case),
            landmark_format="verse",
            labels=masks.get(case),
            split=_split_of(path.relative_to(root)),
            source=SOURCE,
            licence=LICENCE,
        )
        for case, path in sorted(images.items())
    ]


def verse_patient(case: str) -> str:
    """Return the subject: `sub-verse400_split-verse090` → verse400, `GL090_CT-ax` → gl090."""
    return re.sub(r"^sub-", "", case).split("_")[0].lower()


def release_of(path: Path) -> str:
    """Return "2019", "2020" or "" from a path such as dataset-verse19training."""
    found = _RELEASE.findall(str(path))
    return f"20{found[-1][1]}" if found else ""


def _files(root: Path, pattern: str) -> Iterator[Path]:
    return (p for p in sorted(root.rglob(pattern)) if p.is_file() and not p.name.startswith("."))


def _by_case(paths: Iterable[Path], case_of: Callable[[str], str | None]) -> dict[str, Path]:
    out: dict[str, Path] = {}
    for path in paths:
        case = case_of(path.name)
        if case is None:
            continue
        if case in out:
            msg = f"{case} has two files, {out[case]} and {path}; expected one"
            raise DatasetError(msg)
        out[case] = path
    return out


def _mask_case(name: str) -> str | None:
    ending = next((e for e in _MASK_ENDINGS if name.endswith(e)), None)
    return name[: -len(ending)] if ending else None


def _point_case(name: str) -> str | None:
    found = _POINT_ENDING.search(name)
    return name[: found.start()] if found else None


def _image_case(name: str) -> str | None:
    if _mask_case(name) is not None or "_msk" in name or "snp" in name:
        return None
    found = _IMAGE.match(name)
    return found["case"] if found else None


def _split_of(path: Path) -> Split:
    folders = "/".join(path.parts[:-1]).lower()
    return next((split for word, split in _SPLITS if word in folders), "")
