"""Codecs: how each `Artifact.format` becomes bytes and comes back.

The same value always gives the same bytes (no time, no name, sorted keys), so a stage that computes the same
leaves later stages fresh. Writing atomically is the caller's part.

| format | value | on disk |
|---|---|---|
| nifti_ct | Volume (z, y, x) of HU, canonical order | int16 NIfTI |
| scan | ScanRecord | JSON |
| heatmap | Volume (z, y, x), float | int16 NIfTI with a scale |
| label_heatmaps | Volume (z, y, x, channel) | uint8: the largest value * 255, and its VerSe label |
| spine_box | SpineBox | JSON |
| labels | Volume of labels on the prepared CT's grid | NIfTI in the very place of the input file |
| vertebra_masks | Vertebra → Volume of 0/1 on (a block of) the prepared CT's grid | folder of NIfTI files |
| landmarks_csv | Landmarks | CSV a person may edit |
| png | (row, column[, 3]) uint8 | PNG |
| json, text | plain JSON, str | UTF-8 |
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from payerseg import records
from payerseg.domain.landmarks import Landmark, Landmarks
from payerseg.domain.spine_box import SpineBox
from payerseg.domain.vertebra import N_CHANNELS, Vertebra
from payerseg.domain.volume import Volume
from payerseg.errors import ArtifactError, InputError
from payerseg.imaging.files import place_labels, read_label_map, read_volume, write_labels
from payerseg.imaging.nifti import read_channels, write_nifti
from payerseg.imaging.orient import to_canonical
from payerseg.imaging.pictures import encode_png, read_png
from payerseg.imaging.scan_record import ScanRecord
from payerseg.results.artifacts import SCAN, Artifact
from payerseg.results.case_folder import CaseFolder
from payerseg.results.landmark_rows import COLUMNS, FLAG_SEPARATOR, BoxRecord, parse_rows


def format_landmarks(landmarks: Landmarks) -> str:
    """Return the table as text: micrometres, four digits of score, head to foot."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for mark in landmarks.values():
        x, y, z = (f"{value + 0.0:.3f}" for value in mark.position_mm)
        flags = FLAG_SEPARATOR.join(mark.flags)
        writer.writerow([mark.vertebra.name, x, y, z, f"{mark.score:.4f}", flags])
    return out.getvalue()


def parse_landmarks(text: str, source: str) -> Landmarks:
    """Read a table, as written or as a person's editor left it; see `parse_rows`.

    Raises:
        ArtifactError: names the line and what is wrong with it.
    """
    rows = parse_rows(text, source)
    return Landmarks(Landmark(row.vertebra, row.position_mm, row.score, row.flags) for row in rows)


_HEATMAP_STEPS = 32767
_MASK_ENDING = ".nii.gz"


@dataclass(frozen=True, slots=True)
class Codec:
    """How one format is written (value, path, case folder) and read (path)."""

    write: Callable[[Any, Path, CaseFolder], object]
    read: Callable[[Path], Any]


def write_artifact(artifact: Artifact, value: object, path: Path, folder: CaseFolder) -> None:
    """Write a value to `path`, the artifact's place or a temporary one.

    Args:
        artifact: names the format.
        value: as the table above says.
        path: a file, or an existing directory for `vertebra_masks`.
        folder: of the case; its scan.json says where labels belong.

    Raises:
        ArtifactError: the format is unknown, or the value is not of its kind.
        GridMismatch: labels that are not on the prepared CT's grid.
    """
    _codec(artifact).write(value, path, folder)


def read_artifact(artifact: Artifact, path: Path) -> Any:
    """Read what `write_artifact` wrote; labels and masks come back on the prepared CT's grid.

    Raises:
        ArtifactError: the format is unknown, or the file is damaged.
    """
    try:
        return _codec(artifact).read(path)
    except (InputError, OSError, UnicodeDecodeError) as error:
        msg = f"{artifact.name} at {path} cannot be read ({error}); run its stage again"
        raise ArtifactError(msg) from error


def check_labels(labels: np.ndarray, name: str) -> None:
    """Check a label map that a person, or nobody knows who, wrote.

    Args:
        labels: (z, y, x) integers.
        name: of the file, for the message.

    Raises:
        ArtifactError: it holds no label, or one that is no vertebra's.
    """
    found = {int(value) for value in np.unique(labels)} - {0}
    strange = sorted(found - {vertebra.verse_label for vertebra in Vertebra})
    if strange or not found:
        what = f"the labels {strange[:8]}" if strange else "no label at all"
        msg = f"{name} holds {what}; expected VerSe numbers of vertebrae, 1 to 25 and 28"
        raise ArtifactError(msg)


def _codec(artifact: Artifact) -> Codec:
    codec = _CODECS.get(artifact.format)
    if codec is None:
        msg = f"{artifact.name} has format {artifact.format!r}; known are {sorted(_CODECS)}"
        raise ArtifactError(msg)
    return codec


def _write_ct(ct: Volume, path: Path, _: CaseFolder) -> None:
    if ct.array.dtype != np.int16:
        msg = f"the prepared CT is {ct.array.dtype}; expected int16 Hounsfield units"
        raise ArtifactError(msg)
    write_nifti(path, ct.array, ct.grid)


def _read_scan(path: Path) -> ScanRecord:
    return ScanRecord.from_json(_read_text(path), str(path))


def _write_heatmap(heatmap: Volume, path: Path, _: CaseFolder) -> None:
    peak = float(np.max(np.abs(heatmap.array)))
    if not np.isfinite(peak):
        msg = "the heatmap holds NaN or infinite values"
        raise ArtifactError(msg)
    slope = float(np.float32(peak / _HEATMAP_STEPS)) or 1.0
    steps = np.rint(heatmap.array / np.float32(slope)).clip(-_HEATMAP_STEPS, _HEATMAP_STEPS)
    write_nifti(path, steps.astype(np.int16), heatmap.grid, slope=slope)


def _write_label_heatmaps(heatmaps: Volume, path: Path, _: CaseFolder) -> None:
    channels = heatmaps.array.shape[-1]
    if heatmaps.array.ndim != 4 or channels > N_CHANNELS:
        msg = (
            f"heatmaps have shape {heatmaps.array.shape}; expected (z, y, x, at most {N_CHANNELS})"
        )
        raise ArtifactError(msg)
    labels = np.array([Vertebra.from_channel(k).verse_label for k in range(channels)], np.uint8)
    best = np.argmax(heatmaps.array, axis=-1)
    peak = np.take_along_axis(heatmaps.array, best[..., None], axis=-1)[..., 0]
    height = np.rint(np.clip(peak, 0, 1) * 255).astype(np.uint8)
    both = np.stack([height, np.where(height > 0, labels[best], 0).astype(np.uint8)], axis=-1)
    write_nifti(path, both, heatmaps.grid)


def _write_labels(labels: Volume, path: Path, folder: CaseFolder) -> None:
    restored = _read_scan(folder.path(SCAN)).restore(labels)
    write_labels(restored.volume, path, restored.header)


def _read_canonical(path: Path) -> Volume:
    canonical, _ = to_canonical(read_label_map(path))
    return canonical.with_array(np.ascontiguousarray(canonical.array))


def _write_masks(masks: Mapping[Vertebra, Volume], path: Path, folder: CaseFolder) -> None:
    record = _read_scan(folder.path(SCAN))
    for vertebra, mask in masks.items():
        target = path / f"{vertebra.name}{_MASK_ENDING}"
        if mask.grid.shape == record.ct_grid.shape:
            place_labels(record.restore(mask), target)
        else:
            stored = record.orientation.undo(mask)
            write_nifti(target, np.ascontiguousarray(stored.array, np.uint8), stored.grid)


def _read_masks(path: Path) -> dict[Vertebra, Volume]:
    files = sorted(path.glob(f"*{_MASK_ENDING}"))
    masks = {}
    for file in files:
        name = file.name.removesuffix(_MASK_ENDING)
        if name not in Vertebra.__members__:
            msg = f"{file} is no mask of a vertebra; move it to another folder"
            raise ArtifactError(msg)
        masks[Vertebra[name]] = _read_canonical(file)
    return dict(sorted(masks.items()))


def _write_json(value: object, path: Path, _: CaseFolder) -> None:
    try:
        path.write_bytes(records.to_json(value).encode("utf-8"))
    except (TypeError, ValueError) as error:
        msg = f"{path.name}: {error}; expected plain JSON without NaN"
        raise ArtifactError(msg) from error


def _text_writer(to_text: Callable[[Any], str]) -> Callable[[Any, Path, CaseFolder], object]:
    return lambda value, path, _: path.write_bytes(to_text(value).encode("utf-8"))


def _read_text(path: Path) -> str:
    return path.read_text(encoding="utf-8-sig")


def _box_json(box: SpineBox) -> str:
    return records.to_json(BoxRecord(box.low_mm, box.high_mm))


def _read_box(path: Path) -> SpineBox:
    box = records.decode(BoxRecord, path.read_bytes(), str(path), "run spine_localization again")
    return SpineBox(box.low_mm, box.high_mm)


_CODECS: dict[str, Codec] = {
    "nifti_ct": Codec(_write_ct, read_volume),
    "scan": Codec(_text_writer(ScanRecord.to_json), _read_scan),
    "heatmap": Codec(_write_heatmap, read_volume),
    "label_heatmaps": Codec(_write_label_heatmaps, read_channels),
    "spine_box": Codec(_text_writer(_box_json), _read_box),
    "labels": Codec(_write_labels, _read_canonical),
    "vertebra_masks": Codec(_write_masks, _read_masks),
    "landmarks_csv": Codec(
        _text_writer(format_landmarks), lambda path: parse_landmarks(_read_text(path), path.name)
    ),
    "png": Codec(lambda picture, path, _: path.write_bytes(encode_png(picture)), read_png),
    "json": Codec(
        _write_json,
        lambda path: records.decode(Any, path.read_bytes(), str(path), "run its stage again"),
    ),
    "text": Codec(_text_writer(str), _read_text),
}
