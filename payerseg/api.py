"""The library call: a scan in, label map, landmarks and status out, in memory and in this process.

    import payerseg
    result = payerseg.segment("scan.nii.gz")

    pipeline = payerseg.Pipeline()          # keeps the networks loaded between scans
    results = [pipeline(path) for path in paths]

It runs the very stages of `payerseg run`, with the same weights and settings, and gives the same labels.
What it lacks is isolation: a crash of native code ends the caller. For many scans use `payerseg run`.
The engine under Keras is chosen by the environment variable KERAS_BACKEND before the first call.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from payerseg.config.load import load_config
from payerseg.config.schema import RunConfig
from payerseg.config.weights import check_weights, default_bundle
from payerseg.dicom.source import DIRECTORY_FILE, is_dicom_source, require_pydicom
from payerseg.domain.grid import Grid
from payerseg.domain.landmarks import Landmarks, Point
from payerseg.domain.series_reference import SERIES_SUFFIX
from payerseg.domain.volume import Volume
from payerseg.errors import InputError
from payerseg.imaging.files import write_volume
from payerseg.imaging.itk_files import ItkImage, volume_from_itk, volume_to_itk
from payerseg.results.artifacts import LANDMARKS_CSV, SCAN, SEGMENTATION, Artifact
from payerseg.results.case_folder import CaseFolder
from payerseg.results.formats import read_artifact
from payerseg.stagekit.case_run import StageSetup
from payerseg.stagekit.catalog import PIPELINE, QUALITY_REPORT, StageSpec
from payerseg.stagekit.in_process import InProcessStage

ArrayWithSpacing = tuple[np.ndarray, Sequence[float]]
Scan = str | Path | Volume | ItkImage | ArrayWithSpacing
SegmentationStatus = Literal["ok", "ok_needs_review", "no_spine"]

_CASE_ID = "scan"
_STAGES = tuple(spec for spec in PIPELINE if spec is not QUALITY_REPORT)


@dataclass(frozen=True, slots=True)
class Segmentation:
    """What was found in one scan.

    Attributes:
        status: "ok"; "ok_needs_review" where a person should look, see `reasons`; "no_spine".
        reasons: in words, why a review is asked for or why there is no spine.
        landmarks: named vertebra centres, LPS mm, physical space of the scan.
        labels: VerSe labels, uint8 (z, y, x), on the exact grid of the scan; all zero without a spine.
    """

    status: SegmentationStatus
    reasons: tuple[str, ...]
    landmarks: Landmarks
    labels: Volume

    @property
    def needs_review(self) -> bool:
        """Whether a person should look before the result is used."""
        return self.status == "ok_needs_review"

    def to_sitk(self) -> ItkImage:
        """Return the label map as a SimpleITK image in the physical space of the scan."""
        return volume_to_itk(self.labels)


@dataclass(frozen=True, slots=True)
class ArrayResult:
    """What was found in an array: plain numpy and plain names.

    Attributes:
        segmentation: VerSe labels, uint8 (z, y, x), voxel for voxel the array that was given.
        landmarks: vertebra's name → its centre (x, y, z) mm, LPS.
        status, reasons: as in `Segmentation`.
    """

    segmentation: np.ndarray
    landmarks: dict[str, Point]
    status: SegmentationStatus
    reasons: tuple[str, ...]


class Pipeline:
    """The pipeline with its networks loaded once; call it with one scan after the other.

    Args:
        config: settings, default those of `payerseg run`; see `payerseg.load_config`.
        weights: bundle folder or checkpoint by stage name, default the shipped bundles.

    Raises:
        BundleError: weights are missing; they are looked for now and loaded at the first call.
    """

    def __init__(
        self, config: RunConfig | None = None, *, weights: Mapping[str, Path | str] | None = None
    ) -> None:
        self._config = config if config is not None else load_config()
        chosen = weights or {}
        self._weights = {
            spec.name: _existing_weights(spec, chosen, self._config.driver.family)
            for spec in _STAGES
            if spec.weights
        }
        self._loaded: dict[str, InProcessStage] = {}

    def __call__(self, scan: Scan) -> Segmentation:
        """Find, name and segment the vertebrae of one scan.

        Args:
            scan: a file; a folder or zip of DICOM files, of which one series is chosen as in
                `payerseg run` (setting driver.dicom_series); a SimpleITK image; a `Volume`; or
                (array, spacing) with the array in (z, y, x) order, spacing (x, y, z) in mm, and LPS
                axes (x to the patient's left, y to the back, z to the head).

        Raises:
            InputError: the scan cannot be used (not 3D, not Hounsfield units, damaged, several DICOM
                studies ...).
            UsageError: DICOM needs the extra `payerseg[dicom]`, which is not installed.
            BundleError: weights are damaged or belong to another stage.
            OutOfResources: memory or disk ran out.
        """
        with tempfile.TemporaryDirectory(prefix="payerseg-") as name:
            if isinstance(scan, str | Path):
                return self._segment(self._file_of(Path(scan).resolve(), Path(name)), Path(name))
            volume = _as_volume(scan)
            path = Path(name) / f"{_CASE_ID}.nii"
            write_volume(volume, path)
            found = self._segment(path, Path(name))
            # NIfTI holds positions as float32; the caller's grid has all its digits
            return replace(found, labels=Volume(found.labels.array, volume.grid))

    def run(
        self, image: np.ndarray, spacing: Sequence[float], affine: np.ndarray | None = None
    ) -> ArrayResult:
        """Find, name and segment the vertebrae of an array; `payerseg.load_nifti` gives all three.

        Args:
            image: HU (z, y, x). Without an affine its axes are LPS: x to the patient's left, y to the
                back, z to the head.
            spacing: (x, y, z) mm.
            affine: (4, 4), index (x, y, z) → LPS mm, for landmarks in the physical space of a file;
                without it they are millimetres from the centre of the first voxel.

        Raises:
            InputError: the array cannot be used, or spacing and affine differ.
            BundleError, OutOfResources: as when called.
        """
        scan = _as_volume((image, tuple(spacing)))
        if affine is not None:
            scan = Volume(scan.array, _grid_with(scan.grid, np.asarray(affine, float)))
        found = self(scan)
        landmarks = {vertebra.name: mark.position_mm for vertebra, mark in found.landmarks.items()}
        return ArrayResult(found.labels.array, landmarks, found.status, found.reasons)

    def _file_of(self, scan: Path, work: Path) -> Path:
        """Return the scan's file; for DICOM a series file that names what is read where it lies."""
        if not is_dicom_source(scan):
            return scan
        require_pydicom()
        from payerseg.dicom.inventory import the_series  # needs the extra

        fill_gaps = self._config.preparation.uneven_slices == "interpolate"
        source = scan.parent if scan.name.upper() == DIRECTORY_FILE else scan
        series = the_series(source, self._config.driver.dicom_series, fill_gaps=fill_gaps)
        path = work / f"{_CASE_ID}{SERIES_SUFFIX}"
        path.write_text(series.to_json(), encoding="utf-8")
        return path

    def _segment(self, image: Path, work: Path) -> Segmentation:
        folder = CaseFolder(work / _CASE_ID, _CASE_ID)
        needs_review, reasons = False, list[str]()
        status: SegmentationStatus
        for spec in _STAGES:
            done = self._stage(spec)(_CASE_ID, folder.root, image)
            needs_review = needs_review or bool(done.notes.get("needs_review"))
            reasons += map(str, done.notes.get("review_reasons", ()))
            if done.status == "no_spine":
                status = "ok_needs_review" if needs_review else "no_spine"
                return _without_spine(folder, status, (*reasons, done.message))
        landmarks = _read(folder, LANDMARKS_CSV)
        labels = _read(folder, SCAN).restore(_read(folder, SEGMENTATION)).volume
        status = "ok_needs_review" if needs_review else "ok"
        return Segmentation(status, tuple(reasons), landmarks, labels)

    def _stage(self, spec: StageSpec) -> InProcessStage:
        """Return a stage, loaded on its first use."""
        if spec.name not in self._loaded:
            section = getattr(self._config, spec.section)
            seed = self._config.driver.seed
            setup = StageSetup(section, self._weights.get(spec.name), seed)
            self._loaded[spec.name] = InProcessStage(spec, setup)
        return self._loaded[spec.name]


def segment(
    scan: Scan,
    *,
    config: RunConfig | None = None,
    weights: Mapping[str, Path | str] | None = None,
) -> Segmentation:
    """Find, name and segment the vertebrae of one scan; arguments and errors as in `Pipeline`.

    For more than one scan keep a `Pipeline`: it loads the networks once.
    """
    return Pipeline(config, weights=weights)(scan)


def _existing_weights(spec: StageSpec, chosen: Mapping[str, Path | str], family: str) -> Path:
    path = Path(chosen.get(spec.name, default_bundle(spec.name, family)))
    check_weights(path, spec.name)
    return path


def _as_volume(scan: Volume | ItkImage | ArrayWithSpacing) -> Volume:
    if isinstance(scan, Volume):
        return scan
    if isinstance(scan, ItkImage):
        return volume_from_itk(scan)
    if not isinstance(scan, tuple) or len(scan) != 2 or np.ndim(scan[0]) != 3 or len(scan[1]) != 3:
        msg = (
            f"scan is {type(scan).__name__}; expected a path, a SimpleITK image, a Volume, or "
            "(array of (z, y, x), spacing (x, y, z) in mm)"
        )
        raise InputError(msg)
    array, spacing_xyz_mm = np.asarray(scan[0]), tuple(float(v) for v in scan[1])
    return Volume(array, Grid(array.shape, spacing_xyz_mm))


def _grid_with(plain: Grid, affine: np.ndarray) -> Grid:
    if affine.shape != (4, 4):
        msg = f"affine has shape {affine.shape}; expected (4, 4), index (x, y, z) to LPS mm"
        raise InputError(msg)
    grid = Grid.from_matrix(plain.shape, affine)
    if not np.allclose(grid.spacing_mm, plain.spacing_mm, rtol=1e-3):
        msg = f"spacing is {plain.spacing_mm} mm, the affine's columns say {grid.spacing_mm} mm"
        raise InputError(msg)
    return grid


def _without_spine(
    folder: CaseFolder, status: SegmentationStatus, reasons: tuple[str, ...]
) -> Segmentation:
    grid = _read(folder, SCAN).source.grid
    empty = Volume(np.zeros(grid.shape, np.uint8), grid)
    return Segmentation(status, reasons, Landmarks(), empty)


def _read(folder: CaseFolder, artifact: Artifact[Any]) -> Any:
    return read_artifact(artifact, folder.path(artifact))
