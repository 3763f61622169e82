"""What a method found, case by case: our results folder, flat files, or bare label maps.

Whose file is whose is told by the files' names, for truths and for results of any method.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from payerseg.datasets.label_schemes import SCHEMES, LabelScheme
from payerseg.datasets.point_files import (
    read_csv_points,
    read_lps_json,
    read_verse_points,
    reading_points,
    vertebra_named,
)
from payerseg.domain.grid import ROUNDED_VOXELS, Grid
from payerseg.domain.landmarks import Landmark, Landmarks
from payerseg.domain.spine_box import SpineBox
from payerseg.domain.vertebra import SACRUM_LABEL, Vertebra
from payerseg.domain.volume import Volume
from payerseg.errors import ArtifactError, DatasetError
from payerseg.imaging.body_centers import landmarks_from_labels
from payerseg.imaging.files import read_label_map
from payerseg.imaging.orient import to_canonical
from payerseg.postprocess.review import range_labels
from payerseg.results.artifacts import (
    LANDMARKS_CSV,
    LANDMARKS_JSON,
    SCAN,
    SEGMENTATION,
    SPINE_BOX,
    Artifact,
)
from payerseg.results.case_folder import CaseFolder
from payerseg.results.fingerprint import HashMemo, results_memo
from payerseg.results.formats import check_labels, read_artifact
from payerseg.results.status import CaseStatus, is_good
from payerseg.stagekit.case_state import CurrentResult, case_folders, current_result

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


@dataclass(frozen=True, slots=True)
class Prediction:
    """What was found in one scan.

    Attributes:
        case_id: as the results name it.
        landmarks: centres; empty where nothing was found or the case failed.
        labels: label map in canonical order, VerSe numbers; None where there is none.
        status: "ok", "ok_needs_review", "no_spine", "failed_…"; "" where the results do not say.
        needs_review: whether the method doubts itself; None where it never says.
        box: stage 1's box, ours only.
        scan_grid: voxels of the scan, where the results tell.
        level_set: labellings among which the true one is said to be, the names head to foot; ours only.
        level_probability: stated probability that all names are right; None where none is.
        refused: why there is nothing to score although the results hold the case: it failed, is stale,
            or cannot be read; "" otherwise. All its vertebrae count as missed.
    """

    case_id: str
    landmarks: Landmarks
    labels: Volume | None = None
    status: str = ""
    needs_review: bool | None = None
    box: SpineBox | None = None
    scan_grid: Grid | None = None
    level_set: tuple[tuple[str, ...], ...] = ()
    level_probability: float | None = None
    refused: str = ""


@dataclass(frozen=True, slots=True)
class PredictionFiles:
    """Where the results of one case lie; nothing is opened yet.

    Attributes:
        case_id: as the results name it.
        folder: a case folder of ours.
        files: loose files of any method.
        memo: for the hashes of our own folders.
    """

    case_id: str
    folder: CaseFolder | None = None
    files: CaseFilesFound | None = None
    memo: HashMemo = field(default_factory=HashMemo)


def find_predictions(root: Path) -> dict[str, PredictionFiles]:
    """List the cases of a results folder by `case_key`.

    Raises:
        ArtifactError: no such folder, or no case in it.
    """
    if not root.is_dir():
        msg = f"{root} is not a folder; expected results to score"
        raise ArtifactError(msg)
    memo = results_memo(root)
    ours = {
        case_key(folder.case_id): PredictionFiles(folder.case_id, folder, memo=memo)
        for folder in case_folders(root)
    }
    if ours:
        return ours
    loose = {
        name: PredictionFiles(name, files=files) for name, files in find_case_files(root).items()
    }
    if not loose:
        msg = f"{root} holds no result; expected case folders, label maps or landmark files"
        raise ArtifactError(msg)
    return loose


@dataclass(frozen=True, slots=True)
class ResultRules:
    """How results are to be read.

    Attributes:
        scheme: meaning of the label numbers of loose files; our own folders are always VerSe.
        with_labels: False leaves label maps unread where landmarks are at hand.
        stale_ok: take also what failed since or belongs to something that has changed.
    """

    scheme: LabelScheme = SCHEMES["verse"]
    with_labels: bool = True
    stale_ok: bool = False


def read_prediction(where: PredictionFiles, rules: ResultRules | None = None) -> Prediction:
    """Read what was found in one scan.

    Args:
        where: as `find_predictions` gives it.
        rules: default: VerSe numbers, everything read, nothing stale.

    Raises:
        ArtifactError, DatasetError, InputError: a file cannot be read, or only by guessing.
    """
    rules = rules or ResultRules()
    if where.folder is not None:
        return _of_case_folder(current_result(where.folder, where.memo), rules)
    return _of_loose_files(where, rules)


def _of_case_folder(current: CurrentResult, rules: ResultRules) -> Prediction:
    """Read a case of ours; nothing of it where it failed or is stale, for then it has no result."""
    folder, refusal = current.folder, current.refusal()
    if refusal and not rules.stale_ok:
        status = current.summary.status if current.failed else "stale"
        return Prediction(folder.case_id, Landmarks(), None, status, refused=refusal)

    def read(artifact: Artifact[Any]) -> Any:
        there = folder.path(artifact).is_file() if refusal else current.has(artifact)
        return read_artifact(artifact, folder.path(artifact)) if there else None

    labels = read(SEGMENTATION) if rules.with_labels else None
    if labels is not None and refusal:
        check_labels(labels.array, str(folder.path(SEGMENTATION)))
    scan, landmarks = read(SCAN), read(LANDMARKS_CSV) or Landmarks()
    level_set, probability = _stated_levels(
        read(LANDMARKS_JSON), landmarks, folder.path(LANDMARKS_JSON)
    )
    return Prediction(
        folder.case_id,
        landmarks,
        labels,
        "stale" if refusal else _status_of(current),
        current.needs_review,
        read(SPINE_BOX),
        scan.ct_grid if scan is not None else None,
        level_set=level_set,
        level_probability=probability,
    )


def _stated_levels(
    decision: Any, landmarks: Landmarks, path: Path
) -> tuple[tuple[tuple[str, ...], ...], float | None]:
    """Return the labellings that a decision states and the probability of the chosen one.

    Nothing where it states none, or is not about these names: a person has given others.

    Raises:
        ArtifactError: it is no such record.
    """
    try:
        if not decision or set(decision.get("landmarks", ())) != {v.name for v in landmarks}:
            return (), None
        level_set = tuple(range_labels(text) for text in decision.get("level_set") or ())
        return level_set, float(decision["level_probability"]) if level_set else None
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        msg = f"{path} cannot be read ({error!r}); run its stage again"
        raise ArtifactError(msg) from error


def _status_of(current: CurrentResult) -> str:
    """Return the case's status; where the last run did not come to it, what its results say."""
    if is_good(current.summary.status):
        return current.summary.status
    if current.needs_review:
        return CaseStatus.OK_NEEDS_REVIEW
    return CaseStatus.OK if current.no_spine is None else CaseStatus.NO_SPINE


def _of_loose_files(where: PredictionFiles, rules: ResultRules) -> Prediction:
    files = where.files or CaseFilesFound()
    points = choose_points(files.points)
    wanted = rules.with_labels or needs_grid(points)
    labels = read_loose_labels(files, rules.scheme) if wanted else None
    if points is not None:
        landmarks = read_points(points, labels)
        return Prediction(where.case_id, landmarks, labels if rules.with_labels else None)
    if labels is None:
        msg = f"{where.case_id} has neither a label map nor landmarks"
        raise ArtifactError(msg)
    landmarks = landmarks_from_labels(labels)
    return Prediction(where.case_id, landmarks, labels)


def read_loose_labels(files: CaseFilesFound, scheme: LabelScheme) -> Volume | None:
    """Read the label map, or the masks, of one case; None where it has none.

    Raises:
        ArtifactError, InputError: they cannot be used.
    """
    if files.trouble:
        raise ArtifactError(files.trouble)
    if files.labels is not None:
        return read_labels(files.labels, scheme)
    return _joined_masks(files.masks) if files.masks else None


def _joined_masks(masks: Mapping[Path, int]) -> Volume:
    """Read a mask per vertebra as one map of VerSe numbers in canonical order.

    Raises:
        ArtifactError: they lie on different grids.
        InputError: one cannot be read, or is no mask.
    """
    whole: Volume | None = None
    for path, label in masks.items():
        mask, _ = to_canonical(read_label_map(path))
        if whole is None:
            whole = mask.with_array(np.zeros(mask.array.shape, np.uint8))
        if whole.grid.voxels_apart(mask.grid) > ROUNDED_VOXELS:
            msg = f"{path} lies on another grid than the masks beside it"
            raise ArtifactError(msg)
        whole.array[(mask.array != 0) & (whole.array == 0)] = label
    if whole is None:
        msg = "no mask to join"
        raise ArtifactError(msg)
    return whole


def read_labels(path: Path, scheme: LabelScheme) -> Volume:
    """Read a label map of any tool as VerSe numbers in canonical order.

    Raises:
        ArtifactError: there are labels, but none that the scheme knows.
        InputError: it cannot be read, or holds fractions.
    """
    stored = read_label_map(path)
    converted = scheme.convert(stored.array)
    if stored.array.any() and not converted.any():
        found = ", ".join(str(n) for n in scheme.unknown(stored.array)[:8])
        msg = f"{path} holds the labels {found}, none of them in the scheme {scheme.name!r}"
        raise ArtifactError(msg)
    canonical, _ = to_canonical(stored.with_array(converted))
    return canonical


def choose_points(paths: list[Path]) -> Path | None:
    """Choose among several position files of one case: CSV, else our JSON, else VerSe's list."""
    ranked = sorted(paths, key=lambda p: (p.name.endswith("ctd.json"), p.suffix != ".csv"))
    return ranked[0] if ranked else None


def needs_grid(points: Path | None) -> bool:
    """Tell whether positions can be read only with an image: none, or voxel indices."""
    return points is None or points.name.endswith("ctd.json")


def read_points(path: Path, labels: Volume | None) -> Landmarks:
    """Read positions of one case in any format that says its own space.

    Raises:
        DatasetError: a VerSe list without the label map that gives it a place.
    """
    if path.suffix == ".csv":
        return read_csv_table(path)
    if not path.name.endswith("ctd.json"):
        return read_flat_json(path) if is_list(path) else read_lps_json(path)[0]
    if labels is None:
        msg = f"{path} holds voxel indices; expected its label map beside it"
        raise DatasetError(msg)
    return read_verse_points(path, labels.grid, labels=labels)


def is_list(path: Path) -> bool:
    """Tell whether a JSON file holds a list, as flat exports do."""
    with reading_points(path):
        return path.read_text(encoding="utf-8-sig").lstrip().startswith("[")


def read_flat_json(path: Path) -> Landmarks:
    """Read a list of `{"label", "X", "Y", "Z"}` in LPS mm, as `--export flat` writes it.

    Raises:
        DatasetError: something else is in it, or a VerSe list of voxel indices.
    """
    with reading_points(path):
        rows = json.loads(path.read_text(encoding="utf-8-sig"))
        if not all(isinstance(row, dict) and {"label", *"XYZ"} <= set(row) for row in rows):
            msg = f"{path} is no list of label, X, Y, Z in mm; VerSe lists end in _ctd.json"
            raise DatasetError(msg)
        points = [(row["label"], tuple(float(row[axis]) for axis in "XYZ")) for row in rows]
        named = [(vertebra_named(label, str(path)), point) for label, point in points]
        return Landmarks(Landmark(vertebra, point) for vertebra, point in named if vertebra)


def read_csv_table(path: Path) -> Landmarks:
    """Read `label,X,Y,Z` rows, with or without our score and flags columns, LPS mm."""
    with reading_points(path):
        head = path.read_text(encoding="utf-8-sig").split("\n", 1)[0].lower()
    if "score" in head:
        return read_artifact(LANDMARKS_CSV, path)
    return read_csv_points(path)
