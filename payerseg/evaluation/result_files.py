"""Whose file is whose: case names from file names, for truths and for results of any method."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from payerseg.errors import DatasetError

Kind = Literal["labels", "points"]
LABEL_ENDINGS = (".nii.gz", ".nii", ".mha", ".nrrd")
_LABEL_TAILS = ("_seg-vert_msk", "_segmentation", "_seg", "_dseg", "_msk", "_labels", "_pred", "")
_POINT_TAILS = ("_seg-subreg_ctd", "_seg-vb_ctd", "_ctd", "_landmarks", "")
_POINT_ENDINGS = (".json", ".csv")
_IMAGE_TAILS = ("_ct", "_0000")
_NO_CASES = re.compile(
    r"(dataset|cases|participants|summary|landmarks|valid_landmarks|bbs|run|dataset_description)"
)


@dataclass(slots=True)
class CaseFilesFound:
    """Files of one case in a folder without a known layout.

    Attributes:
        labels: label map.
        points: positions.
    """

    labels: Path | None = None
    points: list[Path] = field(default_factory=list)


def find_case_files(root: Path) -> dict[str, CaseFilesFound]:
    """Group the label maps and position files below a folder by case.

    Images (`*_ct`, nnU-Net's `*_0000`) are no label maps and are left out.

    Raises:
        DatasetError: two label maps of one case.
    """
    found: dict[str, CaseFilesFound] = {}
    for path in sorted(p for p in root.rglob("*") if p.is_file()):
        if any(part.startswith(".") for part in path.relative_to(root).parts):
            continue
        stem, kind = split_name(path.name)
        if kind is None or _NO_CASES.fullmatch(stem):
            continue
        files = found.setdefault(case_key(stem), CaseFilesFound())
        if kind == "points":
            files.points.append(path)
        elif files.labels is None:
            files.labels = path
        else:
            msg = (
                f"{files.labels} and {path} are both label maps of case {stem!r}; expected one. "
                "Give the folder that holds only the wanted ones"
            )
            raise DatasetError(msg)
    return found


def split_name(name: str) -> tuple[str, Kind | None]:
    """Return the case and the kind of a file by its name; kind None for what is neither."""
    for ending in LABEL_ENDINGS:
        if name.lower().endswith(ending):
            stem = name[: -len(ending)]
            if stem.endswith(_IMAGE_TAILS):
                return stem, None
            return _without(stem, _LABEL_TAILS), "labels"
    for ending in _POINT_ENDINGS:
        if name.lower().endswith(ending):
            return _without(name[: -len(ending)], _POINT_TAILS), "points"
    return name, None


def case_key(case_id: str) -> str:
    """Return what two names of one case share: `sub-01_ct` and `sub-01` are one case."""
    return case_id.removesuffix("_ct")


def _without(stem: str, tails: tuple[str, ...]) -> str:
    return next(stem[: len(stem) - len(tail)] for tail in tails if stem.endswith(tail))
