"""Whose file is whose: case names from file names, for truths and for results of any method."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from payerseg.domain.vertebra import SACRUM_LABEL, Vertebra

Kind = Literal["labels", "points"]
LABEL_ENDINGS = (".nii.gz", ".nii", ".mha", ".nrrd")
_SINGLE_MASK = re.compile(r"(vertebrae_[CTLS]\d+|sacrum)\.(nii|nii\.gz|mha|nrrd)", re.IGNORECASE)
"""TotalSegmentator's default output: a folder per scan, a file of 0 and 1 per structure."""
_MASK_FOLDERS = ("segmentations", "segmentation", "masks", "vertebrae")
"""Names of such a folder where it lies inside the one that is named after the case."""
_LABEL_TAILS = ("_seg-vert_msk", "_segmentation", "_seg", "_dseg", "_msk", "_labels", "_pred", "")
_POINT_TAILS = ("_seg-subreg_ctd", "_seg-vb_ctd", "_ctd", "_landmarks", "")
_POINT_ENDINGS = (".json", ".csv")
_IMAGE_TAILS = ("_ct", "_0000")
_IMAGE_STEM = "ct"
_NO_CASES = re.compile(
    r"(dataset|cases|participants|summary|landmarks|valid_landmarks|bbs|run|dataset_description)"
)


@dataclass(slots=True)
class CaseFilesFound:
    """Files of one case in a folder without a known layout.

    Attributes:
        labels: label map.
        points: positions.
        masks: mask → VerSe label, of a method that writes a file per vertebra.
        trouble: why the files cannot be used; "" where nothing is wrong with their names.
    """

    labels: Path | None = None
    points: list[Path] = field(default_factory=list)
    masks: dict[Path, int] = field(default_factory=dict)
    trouble: str = ""

    @property
    def has_labels(self) -> bool:
        """Whether there are masks of any kind."""
        return self.labels is not None or bool(self.masks)


def find_case_files(root: Path) -> dict[str, CaseFilesFound]:
    """Group the label maps and position files below a folder by case.

    Images (`*_ct`, `ct.*`, nnU-Net's `*_0000`) are no label maps and are left out. A folder with a file
    per vertebra (`vertebrae_L1.nii.gz`, as TotalSegmentator writes them) is one case, named after it.
    What is ambiguous is the trouble of its case, and hinders no other.
    """
    found: dict[str, CaseFilesFound] = {}
    paths = [
        path
        for path in sorted(root.rglob("*"))
        if not any(part.startswith(".") for part in path.relative_to(root).parts)
    ]
    single = {path for path in paths if _SINGLE_MASK.fullmatch(path.name)}
    for path in sorted(single):
        files = found.setdefault(_case_of_masks(path.parent, root), CaseFilesFound())
        label = _label_of_mask(path.name)
        if label is None or (label != SACRUM_LABEL and label in files.masks.values()):
            files.trouble = f"{path} is a mask of no known vertebra, or of one that has another"
        else:
            files.masks[path] = label
    with_masks = {path.parent for path in single}
    for path in paths:
        stem, kind = split_name(path.name)
        if kind is None or _NO_CASES.fullmatch(stem) or path in single:
            continue
        if kind == "labels" and path.parent in with_masks:
            continue  # another structure of the same scan
        if path.is_dir() and (kind == "points" or any(path.iterdir())):
            continue
        files = found.setdefault(case_key(stem), CaseFilesFound())
        if not path.is_file():
            files.trouble = f"{path} is no file, though it is named like one"
        elif kind == "points":
            files.points.append(path)
        elif files.has_labels:
            files.trouble = (
                f"{path} and {files.labels or 'single masks'} are both label maps of case {stem!r}; "
                "expected one. Give the folder that holds only the wanted ones"
            )
        else:
            files.labels = path
    return found


def _case_of_masks(folder: Path, root: Path) -> str:
    """Return the case key of a folder that holds a file per vertebra."""
    inside = folder.name.lower() in _MASK_FOLDERS and folder != root
    return case_key((folder.parent if inside else folder).resolve().name)


def _label_of_mask(file_name: str) -> int | None:
    name = file_name.split(".", maxsplit=1)[0].upper().removeprefix("VERTEBRAE_")
    if name in ("S1", "SACRUM"):  # S1 is a part of the sacrum
        return SACRUM_LABEL
    return Vertebra[name].verse_label if name in Vertebra.__members__ else None


def split_name(name: str) -> tuple[str, Kind | None]:
    """Return the case and the kind of a file by its name; kind None for what is neither."""
    for ending in LABEL_ENDINGS:
        if name.lower().endswith(ending):
            stem = name[: -len(ending)]
            if stem.endswith(_IMAGE_TAILS) or stem.lower() == _IMAGE_STEM:
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
