"""What an export starts from: one finished case of a results folder."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from payerseg.atomic import replacing
from payerseg.domain.landmarks import Landmarks
from payerseg.domain.series_reference import SeriesReference
from payerseg.domain.vertebra import Vertebra
from payerseg.domain.volume import Volume
from payerseg.errors import ArtifactError, InputError, PayersegError, UnreadableScan
from payerseg.imaging.files import read_label_map
from payerseg.results.artifacts import LANDMARKS_CSV, MASK_REPORT, SCAN, SEGMENTATION, Artifact
from payerseg.results.case_folder import CaseFolder
from payerseg.results.fingerprint import results_memo
from payerseg.results.formats import check_labels, read_artifact
from payerseg.results.status import read_status
from payerseg.stagekit.case_state import CurrentResult, case_folders, current_result
from payerseg.stagekit.catalog import VERTEBRAE_SEGMENTATION

TellFailed = Callable[[str, Exception], None]


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
        by_hand: which of its results hold a person's work.
        stale: why it is not the current result, where it is exported all the same; "" where it is.
    """

    case_id: str
    segmentation: Path
    landmarks: Landmarks
    by_hand: frozenset[Artifact] = frozenset()
    stale: str = ""

    def read_labels(self) -> Volume:
        """Read the label map in the stored order of the user's file.

        Raises:
            ArtifactError: it is not there, or cannot be used.
        """
        try:
            return read_label_map(self.segmentation)
        except InputError as error:
            msg = f"{self.segmentation} cannot be used ({error}); run its stage again"
            raise ArtifactError(msg) from error

    @property
    def is_redrawn(self) -> bool:
        """Whether a person corrected its masks."""
        return not self.by_hand.isdisjoint(VERTEBRAE_SEGMENTATION.writes)

    def assisted(self) -> frozenset[str]:
        """Return the vertebrae whose masks are not the program's alone.

        A person corrected the mask, or the table of landmarks from which all masks were made.

        Raises:
            ArtifactError: masks.json is damaged.
        """
        if LANDMARKS_CSV in self.by_hand:
            return frozenset(vertebra.name for vertebra in Vertebra)
        if not self.is_redrawn:
            return frozenset()
        folder = CaseFolder(self.segmentation.parent.parent, self.case_id)
        entries = read_artifact(MASK_REPORT, folder.path(MASK_REPORT))
        return frozenset(name for name, entry in entries.items() if entry.get("by_hand"))

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
        return DicomOrigin(str(facts["dicom_series"]), _series_file(folder))

    def copy_segmentation(self, target: Path) -> Path:
        """Copy the label map byte for byte."""
        with replacing(target) as partial:
            shutil.copyfile(self.segmentation, partial)
        return target


@dataclass(frozen=True, slots=True)
class FoundResults:
    """The cases of a results folder.

    Attributes:
        cases: those with vertebrae, by case id.
        without: case id → why there is nothing to export: that is their result.
        refused: case id → why its result is not exported: it failed, is stale, damaged or not segmented.
    """

    cases: tuple[CaseResult, ...]
    without: dict[str, str]
    refused: dict[str, str]


def _series_file(folder: CaseFolder) -> SeriesReference | None:
    """Return the files that a case's series consists of, as the last run noted them."""
    try:
        status = read_status(folder)
        image = status.image if status is not None else None
        reference = SeriesReference.read(image) if image is not None else None
    except (OSError, ArtifactError, UnreadableScan):
        return None
    if reference is None or not all(path.is_file() for path in reference.files):
        return None
    return reference


def find_results(root: Path, *, stale_ok: bool = False) -> FoundResults:
    """List the cases of `payerseg run`'s output folder.

    Args:
        root: the folder.
        stale_ok: take results that failed since, or belong to something that has changed, if they can be
            read; each says so in `CaseResult.stale`.

    Raises:
        ArtifactError: no such folder, or no case in it.
    """
    if not root.is_dir():
        msg = f"{root} is not a folder; expected the output folder of 'payerseg run'"
        raise ArtifactError(msg)
    memo = results_memo(root)
    cases, without, refused = [], dict[str, str](), dict[str, str]()
    for folder in case_folders(root):
        current = current_result(folder, memo)
        refusal = current.refusal()
        if current.no_spine is not None:
            without[folder.case_id] = f"no spine: {current.no_spine}"
        elif refusal and not stale_ok:
            refused[folder.case_id] = refusal
        elif not refusal and not current.has(SEGMENTATION):
            refused[folder.case_id] = f"not segmented: {_how_far(current)}"
        else:
            try:
                cases.append(_case_of(current, refusal))
            except ArtifactError as error:
                refused[folder.case_id] = str(error)
    if not cases and not without and not refused:
        msg = f"{root} holds no case; expected the output folder of 'payerseg run'"
        raise ArtifactError(msg)
    return FoundResults(tuple(cases), without, refused)


def _how_far(current: CurrentResult) -> str:
    done = list(current.manifests)
    return f"done up to {done[-1]}" if done else current.summary.message or "no stage has run"


def _case_of(current: CurrentResult, refusal: str) -> CaseResult:
    """Return a case that is to be exported.

    Raises:
        ArtifactError: a file is missing or cannot be used, or there is no vertebra.
    """
    folder = current.folder
    landmarks = read_artifact(LANDMARKS_CSV, folder.path(LANDMARKS_CSV))
    place = folder.path(SEGMENTATION)
    case = CaseResult(folder.case_id, place, landmarks, current.by_hand, refusal)
    if not landmarks:
        msg = f"{folder.path(LANDMARKS_CSV)} lists no vertebra"
        raise ArtifactError(msg)
    if refusal:  # nothing else vouches for it
        check_labels(case.read_labels().array, str(case.segmentation))
    return case


def each_case(
    cases: Iterable[CaseResult],
    write: Callable[[CaseResult], list[Path]],
    tell_failed: TellFailed | None = None,
) -> list[Path]:
    """Write one case after the other.

    Args:
        cases: which.
        write: writes one and returns its files.
        tell_failed: gets the id and the reason of a case that cannot be written, and the others go on;
            None: the first such case raises.

    Returns:
        All files written.

    Raises:
        PayersegError: a case cannot be written, and nobody is to be told.
    """
    written = []
    for case in cases:
        try:
            written += write(case)
        except (PayersegError, OSError) as error:
            if tell_failed is None:
                raise
            tell_failed(case.case_id, error)
    return written
