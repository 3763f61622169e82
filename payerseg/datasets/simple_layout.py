"""Read `images/ landmarks/*.csv segmentations/*_seg.nii.gz train.txt val.txt`.

`images/ID.nii.gz` decides which cases there are; everything else is optional.
`cases.json`, also optional, may say more per case:
`{"ID": {"patient": "...", "partial": ["T4"], "source": "...", "licence": "...",
"ribs": {"T12": ["rib", "stump"]}, "sacrum": [x, y, z]}}` (left before right; LPS mm).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from payerseg import records
from payerseg.datasets.cases import CaseFiles, Split
from payerseg.datasets.point_files import level_facts, vertebra_named
from payerseg.errors import DatasetError

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
