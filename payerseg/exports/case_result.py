"""What an export starts from: one finished case of a results folder."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from payerseg.domain.landmarks import Landmarks
from payerseg.domain.series_reference import SeriesReference
from payerseg.domain.volume import Volume
from payerseg.errors import ArtifactError, UnreadableScan
from payerseg.imaging.files import read_volume
from payerseg.results.artifacts import LANDMARKS_CSV, SCAN, SEGMENTATION
from payerseg.results.case_folder import CaseFolder
from payerseg.results.formats import read_artifact


@dataclass(frozen=True, slots=True)
class DicomOrigin:
    """Which DICOM series a case came from.

    Attributes:
        digest: `dicom.series.series_digest` of its UID.
        reference: its files; None if they are no longer known or not there.
    """

    digest: str
    reference: SeriesReference | None


@dataclass(frozen=True, slots=True)
class CaseResult:
    """A case with a segmentation.

    Attributes:
        case_id: names the files.
        segmentation: label map on the user's own grid.
        landmarks: vertebra centres, LPS mm.
    """

    case_id: str
    segmentation: Path
    landmarks: Landmarks

    def read_labels(self) -> Volume:
        """Read the label map in the stored order of the user's file."""
        return read_volume(self.segmentation)

    def dicom_origin(self) -> DicomOrigin | None:
        """Return the DICOM series that was segmented; None if the scan was another file.

        Raises:
            ArtifactError: scan.json or status.json is damaged.
        """
        folder = CaseFolder(self.segmentation.parent.parent, self.case_id)
        scan = folder.path(SCAN)
        facts = read_artifact(SCAN, scan).facts if scan.is_file() else {}
        if "dicom_series" not in facts:
            return None
        return DicomOrigin(str(facts["dicom_series"]), _series_file(folder.status_path))

    def copy_segmentation(self, target: Path) -> Path:
        """Copy the label map byte for byte."""
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(self.segmentation, target)
        return target


@dataclass(frozen=True, slots=True)
class FoundResults:
    """The cases of a results folder.

    Attributes:
        cases: those with vertebrae, by case id.
        left_out: case id → why there is nothing to export.
    """

    cases: tuple[CaseResult, ...]
    left_out: dict[str, str]


def _series_file(status: Path) -> SeriesReference | None:
    """Return the files that a case's series consists of, as the last run noted them."""
    try:
        image = json.loads(status.read_text(encoding="utf-8")).get("image")
        reference = SeriesReference.read(Path(image)) if image else None
    except (OSError, ValueError, AttributeError, UnreadableScan):
        return None
    if reference is None or not all(path.is_file() for path in reference.files):
        return None
    return reference


def find_results(root: Path) -> FoundResults:
    """List the cases of `payerseg run`'s output folder.

    Raises:
        ArtifactError: no such folder, or no case in it.
    """
    if not root.is_dir():
        msg = f"{root} is not a folder; expected the output folder of 'payerseg run'"
        raise ArtifactError(msg)
    cases, left_out = [], {}
    for path in sorted(root.iterdir()):
        folder = CaseFolder(path, path.name)
        if path.name.startswith(".") or not (path / LANDMARKS_CSV.step).is_dir():
            continue
        segmentation, table = folder.path(SEGMENTATION), folder.path(LANDMARKS_CSV)
        if not segmentation.is_file() or not table.is_file():
            left_out[path.name] = "not segmented (failed, no spine, or not run)"
            continue
        landmarks = read_artifact(LANDMARKS_CSV, table)
        if landmarks:
            cases.append(CaseResult(path.name, segmentation, landmarks))
        else:
            left_out[path.name] = "no vertebra found"
    if not cases and not left_out:
        msg = f"{root} holds no case; expected the output folder of 'payerseg run'"
        raise ArtifactError(msg)
    return FoundResults(tuple(cases), left_out)
