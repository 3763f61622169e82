"""Read VerSe / BIDS folders, the subject-space release and the older challenge release.

New: `.../rawdata/sub-verse004/sub-verse004_ct.nii.gz`, `.../derivatives/sub-verse004/
sub-verse004_seg-vert_msk.nii.gz` and `..._seg-subreg_ctd.json` (or `_seg-vb_ctd.json`).
Old: `verse004.nii.gz`, `verse004_seg.nii.gz`, `verse004_ctd.json` or `verse004_iso-ctd.json`.
Files belong together by name, wherever they lie under the folder.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from payerseg.datasets.cases import CaseFiles, Split
from payerseg.errors import DatasetError

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
