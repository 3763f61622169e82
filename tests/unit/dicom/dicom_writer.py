"""Series written with pydicom: a good one, which tests then break."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from payerseg.dicom.inventory import take_inventory
from payerseg.dicom.selection import Choice
from payerseg.dicom.series import read_series
from payerseg.domain.grid import Grid
from payerseg.domain.volume import Volume

CT, ENHANCED, MR = (
    "1.2.840.10008.5.1.4.1.1.2",
    "1.2.840.10008.5.1.4.1.1.2.1",
    "1.2.840.10008.5.1.4.1.1.4",
)
PATIENT = {"PatientName": "Sekret^Vorname", "PatientID": "ID-4711-SEKRET",
           "PatientBirthDate": "19010203", "AccessionNumber": "ACC0815SEKRET",
           "ReferringPhysicianName": "Arzt^Sekret", "InstitutionName": "Klinik Sekret"}  # fmt: skip
INTERCEPT = -1024


def phantom(grid: Grid, seed: int = 0) -> Volume:
    """A body of soft tissue in air with a bone in it, different in every voxel: no flip goes unseen."""
    points = grid.map_indices_to_world(np.indices(grid.shape).reshape(3, -1).T)
    middle = grid.map_indices_to_world((np.array([grid.shape]) - 1) / 2)[0]
    away = points - middle
    hu = np.full(len(points), -1000.0)
    hu[(away[:, 0] / 40) ** 2 + (away[:, 1] / 32) ** 2 < 1] = 30
    hu[np.linalg.norm(away - (8, 12, 5), axis=1) < 12] = 500
    hu += np.random.default_rng(seed).integers(-20, 20, len(hu))
    return Volume(hu.reshape(grid.shape).astype(np.int16), grid)


def default_grid(n_slices: int = 12, step_mm: float = 4.0) -> Grid:
    return Grid((n_slices, 40, 48), (2.0, 2.4, step_mm), (-47.5, -40.25, 100.125))


def header(sop_class: str = CT, **tags) -> FileDataset:
    """A file without pixels; `tags` replace or add."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = sop_class, generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset(None, Dataset(), file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID = sop_class, meta.MediaStorageSOPInstanceUID
    data.Modality, data.SeriesNumber, data.InstanceNumber = "CT", 3, 1
    data.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    data.StudyDate, data.StudyTime, data.StudyID = "20260101", "120000", "1"
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 16, 15, 0
    for name, value in {**PATIENT, **tags}.items():
        setattr(data, name, value)
    return data


def slices_of(volume: Volume, **tags) -> list[FileDataset]:
    """One file per slice, head last, with shuffled instance numbers."""
    grid = volume.grid
    direction = np.asarray(grid.direction).reshape(3, 3)
    shared = {
        "SeriesInstanceUID": generate_uid(), "StudyInstanceUID": generate_uid(),
        "FrameOfReferenceUID": generate_uid(), "RescaleSlope": 1, "RescaleIntercept": INTERCEPT,
        "SliceThickness": 1.0, "PixelSpacing": [grid.spacing_mm[1], grid.spacing_mm[0]],
        "ImageOrientationPatient": [f"{v:.10f}"[:16] for v in (*direction[:, 0], *direction[:, 1])],
        "Rows": grid.shape[1], "Columns": grid.shape[2], **tags,
    }  # fmt: skip
    files = []
    for k in range(grid.shape[0]):
        data = header(**{"InstanceNumber": 1 + (k * 5) % 997, **shared})
        place = grid.map_indices_to_world((k, 0, 0))[0]
        data.ImagePositionPatient = [f"{v:.8f}"[:16] for v in place]
        stored = (volume.array[k].astype(int) - int(data.RescaleIntercept)) / float(
            data.RescaleSlope
        )
        kind = "<i2" if data.PixelRepresentation else "<u2"
        data.PixelData = np.rint(stored).astype(kind).tobytes()
        files.append(data)
    return files


def enhanced_of(volume: Volume, order=None, **tags) -> FileDataset:
    """The same volume as one multi-frame file, its frames in `order`."""
    files = slices_of(volume)
    first = files[0]
    order = list(range(len(files))) if order is None else order
    data = header(ENHANCED, **{"NumberOfFrames": len(order), **tags})
    for name in ("SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID", "Rows", "Columns"):
        setattr(data, name, first[name].value)
    data.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    measures, values, shared = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = first.PixelSpacing, 1.0
    values.RescaleSlope, values.RescaleIntercept, values.RescaleType = 1, INTERCEPT, "HU"
    shared.PixelMeasuresSequence = Sequence([measures])
    shared.PixelValueTransformationSequence = Sequence([values])
    data.SharedFunctionalGroupsSequence = Sequence([shared])
    groups = []
    for k in order:
        place, plane, group = Dataset(), Dataset(), Dataset()
        place.ImagePositionPatient = files[k].ImagePositionPatient
        plane.ImageOrientationPatient = files[k].ImageOrientationPatient
        group.PlanePositionSequence, group.PlaneOrientationSequence = (
            Sequence([place]),
            Sequence([plane]),
        )
        groups.append(group)
    data.PerFrameFunctionalGroupsSequence = Sequence(groups)
    data.PixelData = b"".join(files[k].PixelData for k in order)
    return data


def save(files, folder: Path, names="{:04d}.dcm") -> Path:
    """Write files under names that say nothing about their order."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(files):
        path = folder / names.format((number * 37) % 1009)
        data.save_as(path, enforce_file_format=True)
    return folder


def zipped(folder: Path) -> Path:
    return Path(shutil.make_archive(str(folder), "zip", folder))


def decide(source: Path, wanted="best", *, fill_gaps=False):
    return take_inventory(source).decide(wanted, fill_gaps=fill_gaps)


def read_chosen(source: Path, wanted="best", *, fill_gaps=False):
    """The scan that is chosen of a source."""
    inventory = take_inventory(source)
    decisions = inventory.decide(wanted, fill_gaps=fill_gaps)
    (chosen,) = [d for d in decisions if d.choice is Choice.CHOSEN]
    return read_series(inventory.reference(chosen), fill_gaps=fill_gaps)


def the_problem(source: Path, wanted="best") -> str:
    """Why nothing of a source can be used."""
    decisions = decide(source, wanted)
    assert all(d.choice is not Choice.CHOSEN for d in decisions), "something was chosen"
    return next(d.reason for d in decisions if d.choice is Choice.REFUSED)


class Writer:
    """The functions above under one name: what the fixture `dicom` gives."""

    phantom = staticmethod(phantom)
    grid = staticmethod(default_grid)
    header = staticmethod(header)
    slices = staticmethod(slices_of)
    enhanced = staticmethod(enhanced_of)
    save = staticmethod(save)
    zipped = staticmethod(zipped)
    decide = staticmethod(decide)
    read = staticmethod(read_chosen)
    problem = staticmethod(the_problem)
    patient = PATIENT
