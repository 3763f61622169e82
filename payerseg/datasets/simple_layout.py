"""Read `images/ landmarks/*.csv segmentations/*_seg.nii.gz train.txt val.txt`.

`images/ID.nii.gz` decides which cases there are; everything else is optional.
`cases.json`, also optional, may say more per case:
`{"ID": {"patient": "...", "partial": ["T4"], "source": "...", "licence": "...",
"ribs": {"T12": ["rib", "stump"]}, "sacrum": [x, y, z]}}` (left before right; LPS mm).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from payerseg.datasets.cases import CaseFiles, Split
from payerseg.datasets.point_files import level_facts, vertebra_named
from payerseg.errors import DatasetError

CASE_FACTS = "cases.json"
IMAGE_ENDINGS = (".nii.gz", ".nii", ".mha", ".nrrd")
_KNOWN_FACTS = {"patient", "partial", "source", "licence", "note", "ribs", "sacrum"}


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


def read_facts(root: Path) -> dict[str, dict[str, Any]]:
    """Read cases.json; {} where there is none.

    Raises:
        DatasetError: not an object of objects, or an unknown key.
    """
    path = root / CASE_FACTS
    if not path.is_file():
        return {}
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        msg = f"{path} is not JSON: {error}"
        raise DatasetError(msg) from error
    if not isinstance(data, dict) or not all(isinstance(v, dict) for v in data.values()):
        msg = f"{path}: expected an object of objects, one per case"
        raise DatasetError(msg)
    for name, facts in data.items():
        unknown = set(facts) - _KNOWN_FACTS
        if unknown:
            msg = f"{path}: {name} has unknown {sorted(unknown)}; known are {sorted(_KNOWN_FACTS)}"
            raise DatasetError(msg)
    return data


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
    facts: Mapping[str, Mapping[str, Any]],
) -> CaseFiles:
    points = root / "landmarks" / f"{name}.csv"
    masks = [root / "segmentations" / f"{name}_seg{ending}" for ending in IMAGE_ENDINGS]
    fact = facts.get(name, {})
    partial = None
    if "partial" in fact:
        named = (vertebra_named(v, f"{root / CASE_FACTS}, {name}") for v in fact["partial"])
        partial = tuple(vertebra for vertebra in named if vertebra is not None)
    return CaseFiles(
        case_id=name,
        patient_id=str(fact.get("patient", name)),
        image=image,
        landmark_file=points if points.is_file() else None,
        landmark_format="csv",
        labels=next((path for path in masks if path.is_file()), None),
        split=splits.get(name, ""),
        source=str(fact.get("source", root.resolve().name)),
        licence=str(fact.get("licence", "")),
        partial=partial,
        note=str(fact.get("note", "")),
        facts=level_facts(fact, f"{root / CASE_FACTS}, {name}"),
    )
