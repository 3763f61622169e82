"""All shapes at hand, from folders or one packed file, and which of them make a spine."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import pairwise
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
from payerseg.synthesis.poses import (
    Curvature,
    Fracture,
    JointTurns,
    Pick,
    PosedVertebra,
    chain,
    rotation,
)
from payerseg.synthesis.shapes import SpineShapes, VertebraShape, measure_spine
from payerseg.synthesis.spine_axis import LEVEL_SPACING_MM, SpineAxis
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
            build_torso(folder.name, _on_lps_axes(_read(folder / name)), labels)
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


def _on_lps_axes(ids: Volume) -> Volume:
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


VARIANTS = (
    "usual", "l6", "t13", "no_t12", "sacralised", "scoliosis", "kyphosis", "fracture", "fused",
)  # fmt: skip
USUAL = tuple(v for v in Vertebra if v not in (Vertebra.T13, Vertebra.L6))
LONGEST_RUN = 9


def levels_of_variant(variant: str) -> list[Vertebra]:
    """Return the vertebrae of a whole spine, head to foot.

    Raises:
        ValueError: no such variant.
    """
    if variant not in VARIANTS:
        msg = f"variant {variant!r} is unknown; expected one of {', '.join(VARIANTS)}"
        raise ValueError(msg)
    levels: list[Vertebra] = list(USUAL)
    if variant == "l6":
        levels.append(Vertebra.L6)
    elif variant == "t13":
        levels.insert(levels.index(Vertebra.L1), Vertebra.T13)
    elif variant == "no_t12":
        levels.remove(Vertebra.T12)
    return levels


def pose_whole_spine(
    library: ShapeLibrary, variant: str, rng: np.random.Generator
) -> list[PosedVertebra]:
    """Compose and pose a whole spine.

    Args:
        library: people to take vertebrae from.
        variant: one of `VARIANTS`.
        rng: who, how big, how bent.

    Raises:
        DatasetError: no shape at hand for one of the levels.
    """
    levels = levels_of_variant(variant)
    size = float(np.clip(rng.normal(1.0, 0.085), 0.72, 1.22))
    picks = _from_several(levels, _shape_levels(levels, rng), library, size, rng)
    picks = _damaged(picks, variant, rng)
    curvature = Curvature.draw(variant, rng)
    turns = JointTurns.draw(len(picks) - 1, rng, float(rng.uniform(0.3, 1.5)))
    posed = chain(picks, turns, curvature.frames(levels))
    if variant == "sacralised":
        wings = [(True, True), (True, False), (False, True)]
        posed[-1] = replace(posed[-1], sacral_wings=wings[int(rng.choice(3, p=[0.6, 0.2, 0.2]))])
    return _somewhere(posed, rng)


def pose_one_spine(
    spine: SpineShapes, library: ShapeLibrary, rng: np.random.Generator
) -> list[PosedVertebra]:
    """Re-pose one person's longest run of vertebrae, with neighbours of others at the ends."""
    size = float(np.clip(rng.normal(1.0, 0.09), 0.75, 1.25))
    picks = [Pick(s.vertebra, s, size) for s in longest_run(spine)]
    for end in (-1, 0):
        for _ in range(2):
            picks = _with_neighbour(picks, end, library, rng)
    posed = chain(picks, JointTurns.draw(len(picks) - 1, rng, float(rng.uniform(0.3, 2.2))))
    return _somewhere(_upright(posed), rng)


def longest_run(spine: SpineShapes) -> list[VertebraShape]:
    """Return the longest stretch of successive levels of one person."""
    runs: list[list[VertebraShape]] = []
    for vertebra, shape in sorted(spine.shapes.items(), key=lambda item: item[0].rank):
        if runs and _follows(runs[-1][-1].vertebra, vertebra):
            runs[-1].append(shape)
        else:
            runs.append([shape])
    return max(runs, key=len)


def _follows(upper: Vertebra, lower: Vertebra) -> bool:
    """Tell whether two vertebrae are usually neighbours (T12 is followed by L1)."""
    return lower.rank == upper.rank + 1 or (upper is Vertebra.T12 and lower is Vertebra.L1)


def _shape_levels(levels: list[Vertebra], rng: np.random.Generator) -> list[Vertebra]:
    """Return from which level each vertebra's shape is taken: L6 and T13 exist in no collection."""
    out = list(levels)
    if Vertebra.L6 in levels:
        out[-3:] = [Vertebra.L3 if rng.random() < 0.3 else Vertebra.L4, Vertebra.L4, Vertebra.L5]
    if Vertebra.T13 in levels:
        out[levels.index(Vertebra.T13)] = Vertebra.L1 if rng.random() < 0.6 else Vertebra.T12
    if Vertebra.T12 not in levels and rng.random() < 0.5:
        out[levels.index(Vertebra.T11)] = Vertebra.T12
    return out


def _from_several(
    levels: list[Vertebra], shapes: list[Vertebra], library: ShapeLibrary, size: float,
    rng: np.random.Generator,
) -> list[Pick]:  # fmt: skip
    """Cover the levels by runs of 3 to `LONGEST_RUN` vertebrae of one person each."""
    picks: list[Pick] = []
    while len(picks) < len(levels):
        index = len(picks)
        reach = [(s, _run_length(s, shapes[index:])) for s in library.spines]
        reach = [(s, n) for s, n in reach if n > 0]
        if not reach:
            msg = f"no label map holds a whole {shapes[index].name}; give folders that do"
            raise DatasetError(msg)
        weights = np.array([min(n, LONGEST_RUN) for _, n in reach], float) ** 1.5
        spine, most = reach[int(rng.choice(len(reach), p=weights / weights.sum()))]
        count = int(rng.integers(min(3, most), min(most, LONGEST_RUN) + 1))
        scale = size / person_size(spine)
        picks += [
            Pick(levels[k], spine.shapes[shapes[k]], scale) for k in range(index, index + count)
        ]
    return picks


def _run_length(spine: SpineShapes, wanted: list[Vertebra]) -> int:
    """Return how many of the wanted shapes a person has in a row from the first."""
    count = 0
    for vertebra in wanted:
        if vertebra not in spine.shapes:
            break
        count += 1
    return count


def person_size(spine: SpineShapes) -> float:
    """Return a person's size by the spacing of neighbours, 1 = usual."""
    ratios = []
    for upper, lower in pairwise(USUAL):
        offset = spine.offset_mm(upper, lower)
        if offset is not None:
            ratios.append(np.linalg.norm(offset) / LEVEL_SPACING_MM[upper.verse_label - 1])
    return float(np.clip(np.median(ratios), 0.5, 1.6)) if ratios else 1.0


def _with_neighbour(
    picks: list[Pick], end: int, library: ShapeLibrary, rng: np.random.Generator
) -> list[Pick]:
    """Add the next level beyond an end (0 = head, -1 = foot) from another person, if there is one."""
    last = picks[end]
    index = USUAL.index(last.vertebra) + (1 if end else -1) if last.vertebra in USUAL else -1
    others = library.with_level(USUAL[index]) if 0 <= index < len(USUAL) else []
    if not others:
        return picks
    other = others[int(rng.integers(len(others)))]
    wide = last.shape.body.half_size_mm[:2].mean() * last.scale
    pick = Pick(
        USUAL[index], other, float(np.clip(wide / other.body.half_size_mm[:2].mean(), 0.7, 1.3))
    )
    return [*picks, pick] if end else [pick, *picks]


def _damaged(picks: list[Pick], variant: str, rng: np.random.Generator) -> list[Pick]:
    """Break or fuse vertebrae where the variant asks for it (others break one in twelve times)."""
    breakable = [k for k, p in enumerate(picks) if p.vertebra.name[0] in "TL"]
    if variant == "fracture" or rng.random() < 0.08:
        count = int(rng.integers(1, 4)) if variant == "fracture" else 1
        for k in rng.choice(breakable, count, replace=False):
            kind = str(rng.choice(["wedge", "biconcave", "crush"], p=[0.5, 0.35, 0.15]))
            picks[k] = replace(picks[k], fracture=Fracture(kind, float(rng.uniform(0.2, 0.55))))
    if variant == "fused":
        k = int(rng.integers(1, len(picks) - 1))
        picks[k] = replace(picks[k], fused_below=True)
    return picks


def _upright(posed: list[PosedVertebra]) -> list[PosedVertebra]:
    """Turn a chain so that it leans no more than people do, mostly to the front or back."""
    chord = posed[0].center_mm - posed[-1].center_mm
    chord = chord / max(float(np.linalg.norm(chord)), 1e-6)
    wanted = np.array([0.3 * chord[0], 0.7 * chord[1], max(chord[2], 0.3)])
    wanted /= np.linalg.norm(wanted)
    axis = np.cross(chord, wanted)
    sine = float(np.linalg.norm(axis))
    if sine < 1e-6:
        return posed
    turn = rotation(axis / sine * np.arcsin(min(sine, 1.0)))
    return [p.moved(turn @ p.center_mm, turn) for p in posed]


def _somewhere(posed: list[PosedVertebra], rng: np.random.Generator) -> list[PosedVertebra]:
    """Turn the whole spine a little and put it somewhere in the world."""
    turn = rotation(rng.normal(0, np.deg2rad((6.0, 2.5, 3.0))))
    shift = rng.uniform(-150, 150, 3)
    return [p.moved(turn @ p.center_mm + shift, turn) for p in posed]
