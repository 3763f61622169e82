"""All shapes at hand: vertebrae of many people and a few labelled torsos, from folders or one packed file."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from payerseg.domain.grid import IDENTITY_DIRECTION, Grid
from payerseg.domain.vertebra import Vertebra
from payerseg.domain.volume import Volume
from payerseg.errors import DatasetError
from payerseg.imaging.body_centers import VertebraBody
from payerseg.imaging.files import read_volume
from payerseg.imaging.orient import closest_orientation
from payerseg.imaging.resample import resample
from payerseg.synthesis.shapes import SpineShapes, VertebraShape, measure_spine
from payerseg.synthesis.spine_axis import SpineAxis
from payerseg.synthesis.torso import TorsoAtlas, build_torso

VERTEBRAE_FILE = "vert.nii.gz"
TORSO_FILES = ("all.nii.gz", "all_bones_1.5mm.nii.gz")
PACKED_FORMAT = 2


@dataclass(frozen=True, slots=True, eq=False)
class ShapeLibrary:
    """What synthetic scans are made from.

    Attributes:
        spines: people's vertebrae; at least one.
        torsos: labelled torsos, may be empty (then the body is drawn from numbers).
    """

    spines: tuple[SpineShapes, ...]
    torsos: tuple[TorsoAtlas, ...] = ()

    def with_level(self, vertebra: Vertebra) -> list[VertebraShape]:
        """Return every shape of one level."""
        return [s.shapes[vertebra] for s in self.spines if vertebra in s.shapes]


def read_library(folders: Iterable[Path]) -> ShapeLibrary:
    """Read label-map folders: `vert.nii.gz` each, and a torso where there is one.

    Args:
        folders: each with `vert.nii.gz` (VerSe labels) and maybe `all.nii.gz` (TotalSegmentator v2 ids)
            or `all_bones_1.5mm.nii.gz`.

    Raises:
        DatasetError: a folder has no label map, or none holds a whole vertebra.
    """
    spines, torsos = [], []
    for folder in sorted(Path(f) for f in folders):
        path = folder / VERTEBRAE_FILE
        if not path.is_file():
            msg = f"{folder} has no {VERTEBRAE_FILE}; expected a label map with VerSe labels"
            raise DatasetError(msg)
        labels = _read(path)
        spines.append(measure_spine(folder.name, labels))
        torsos += [
            build_torso(folder.name, _upright(_read(folder / name)), labels)
            for name in TORSO_FILES
            if (folder / name).is_file()
        ]
    spines = [s for s in spines if s.shapes]
    if not spines:
        msg = "no folder holds a whole vertebra; expected VerSe labels 1..25 or 28"
        raise DatasetError(msg)
    return ShapeLibrary(tuple(spines), tuple(torsos))


def joined(libraries: Iterable[ShapeLibrary]) -> ShapeLibrary:
    """Return one library of all people and torsos."""
    every = tuple(libraries)
    return ShapeLibrary(
        tuple(spine for one in every for spine in one.spines),
        tuple(torso for one in every for torso in one.torsos),
    )


def _read(path: Path) -> Volume:
    volume = read_volume(path)
    return closest_orientation(volume.grid).apply(volume)


def _upright(ids: Volume) -> Volume:
    """Return a label map on axes along LPS (an oblique one is sampled at the nearest voxels)."""
    if np.allclose(ids.grid.direction, IDENTITY_DIRECTION, atol=1e-3):
        return ids
    corners = ids.grid.corners_mm()
    low, spacing = corners.min(axis=0), min(ids.grid.spacing_mm)
    shape = np.ceil((corners.max(axis=0) - low) / spacing).astype(int)[::-1]
    onto = Grid(tuple(shape.tolist()), (spacing,) * 3, tuple(low + spacing / 2))
    return resample(ids, onto, interpolation="nearest")


def save_library(library: ShapeLibrary, path: Path) -> None:
    """Pack a library into one .npz (plain arrays, no pickle), so that it loads in a second."""
    arrays: dict[str, np.ndarray] = {"format": np.array(PACKED_FORMAT)}
    for i, spine in enumerate(library.spines):
        for vertebra, shape in spine.shapes.items():
            key = f"spine/{i:03d}/{spine.source}/{vertebra.name}"
            body = shape.body
            frame = [body.center_mm, *body.axes, body.half_size_mm, body.canal_mm, shape.grid.origin_mm,
                     shape.grid.spacing_mm]  # fmt: skip
            arrays[f"{key}/depth"] = shape.depth
            arrays[f"{key}/frame"] = np.array(frame, float)
    for i, torso in enumerate(library.torsos):
        key = f"torso/{i:03d}/{torso.source}/torso"
        axis = torso.axis
        volumes = [torso.tissue, torso.bone.view(np.uint8), torso.hull.view(np.uint8),
                   torso.ribs]  # fmt: skip
        arrays[f"{key}/volumes"] = np.stack(volumes)
        arrays[f"{key}/frame"] = np.array([torso.grid.origin_mm, torso.grid.spacing_mm])
        arrays[f"{key}/axis"] = np.stack([axis.z_mm, axis.level, axis.x_mm, axis.y_mm])
        s1 = np.full(3, np.nan) if torso.s1_mm is None else torso.s1_mm
        arrays[f"{key}/facts"] = np.array([axis.scale, float(torso.has_organs), *s1])
    with path.open("wb") as file:
        np.savez_compressed(file, **arrays)


def load_library(path: Path) -> ShapeLibrary:
    """Read what `save_library` wrote.

    Raises:
        DatasetError: the file is of another format.
    """
    with np.load(path, allow_pickle=False) as packed:
        if "format" not in packed or int(packed["format"]) != PACKED_FORMAT:
            msg = f"{path.name} is no packed shape library of format {PACKED_FORMAT}; pack it again"
            raise DatasetError(msg)
        groups: dict[tuple[str, str, str], dict[str, dict[str, np.ndarray]]] = {}
        for key in packed.files:
            if key != "format":
                kind, index, source, item, part = key.split("/")
                groups.setdefault((kind, index, source), {}).setdefault(item, {})[part] = packed[
                    key
                ]
    spines, torsos = [], []
    for (kind, _, source), items in sorted(groups.items()):
        if kind == "spine":
            shapes = {Vertebra[n]: _shape(Vertebra[n], source, parts) for n, parts in items.items()}
            spines.append(
                SpineShapes(source, dict(sorted(shapes.items(), key=lambda s: s[0].rank)))
            )
        else:
            torsos.append(_torso(source, items["torso"]))
    return ShapeLibrary(tuple(spines), tuple(torsos))


def _shape(vertebra: Vertebra, source: str, parts: dict[str, np.ndarray]) -> VertebraShape:
    frame, depth = parts["frame"], parts["depth"]
    body = VertebraBody(frame[0], frame[1:4], frame[4], frame[5])
    return VertebraShape(
        vertebra, source, depth, Grid(depth.shape, tuple(frame[7]), tuple(frame[6])), body
    )


def _torso(source: str, parts: dict[str, np.ndarray]) -> TorsoAtlas:
    tissue, bone, hull, ribs = parts["volumes"]
    origin, spacing = parts["frame"]
    scale, has_organs, *s1 = parts["facts"]
    z_mm, level, x_mm, y_mm = parts["axis"]
    axis = SpineAxis(z_mm, level, x_mm, y_mm, float(scale))
    grid = Grid(tissue.shape, tuple(spacing), tuple(origin))
    return TorsoAtlas(
        source, tissue, bone.view(np.int8), hull.view(np.int8), ribs, grid, axis, bool(has_organs),
        None if np.isnan(s1).any() else np.array(s1),
    )  # fmt: skip
