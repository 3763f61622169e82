"""Vertebra positions in the files of others → Landmarks in LPS mm.

Three kinds: `{"space": "LPS ...", "landmarks": {"T1": [x, y, z]}}`, rows of `label,X,Y,Z`, and the
centroid lists of VerSe in their two conventions.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np

from payerseg.datasets.cases import LevelFacts
from payerseg.domain.grid import Grid
from payerseg.domain.landmarks import Landmark, Landmarks
from payerseg.domain.levels import Rib
from payerseg.domain.vertebra import COCCYX_LABEL, SACRUM_LABEL, Vertebra
from payerseg.domain.volume import Volume
from payerseg.errors import DatasetError
from payerseg.imaging.orient import axis_codes

CsvSpace = Literal["lps_mm", "ras_mm", "voxel"]
VerseConvention = Literal["auto", "subject", "iso_pir", "iso_asl"]

_AXIS = {"L": (0, 1), "R": (0, -1), "P": (1, 1), "A": (1, -1), "S": (2, 1), "I": (2, -1)}
_ISO_DIRECTIONS = {"iso_pir": "PIR", "iso_asl": "ASL"}
_SURE, _UNSURE = 0.8, 0.5
"""A frame is believed when this share of points lies in its mask and no other reaches 0.5."""
_NO_VERTEBRA = {SACRUM_LABEL, COCCYX_LABEL}


@contextmanager
def reading_points(path: Path) -> Iterator[None]:
    """Turn whatever a file that is something else than expected leads to into one error.

    Raises:
        DatasetError: names the file and what is wrong with it.
    """
    try:
        yield
    except (OSError, ValueError, TypeError, LookupError, RecursionError, csv.Error) as error:
        said = "nested too deep" if isinstance(error, RecursionError) else repr(error)
        msg = f"{path} cannot be read as vertebra positions ({said})"
        raise DatasetError(msg) from error


def vertebra_named(text: str | int, where: str) -> Vertebra | None:
    """Return the vertebra of a name (T4, Th4) or a VerSe label; None for sacrum and coccyx.

    Raises:
        DatasetError: neither a name nor a label.
    """
    word = str(text).strip()
    name = word.upper().replace("TH", "T")
    if name in Vertebra.__members__:
        return Vertebra[name]
    if name in ("SACRUM", "COCCYX", "S1"):
        return None
    try:
        label = float(word)
    except ValueError:
        label = -1.0
    if label in _NO_VERTEBRA:
        return None
    if label not in {v.verse_label for v in Vertebra}:
        msg = f"{where}: label {word!r} is out of range; expected C1..L6, T13 or 1..25, 28"
        raise DatasetError(msg)
    return Vertebra(int(label))


def read_lps_json(path: Path) -> tuple[Landmarks, frozenset[Vertebra]]:
    """Read `{"landmarks": {"T1": [x, y, z]}, "partial": [...]}`, LPS mm.

    Returns:
        The landmarks, and the vertebrae that are visible without a mark.

    Raises:
        DatasetError: not such a file, or another space.
    """
    with reading_points(path):
        data = _json(path)
        if not isinstance(data, dict) or not isinstance(data.get("landmarks"), dict):
            msg = f"{path} holds no object of landmarks; expected {{'landmarks': {{'T1': [x, y, z]}}}}"
            raise DatasetError(msg)
        space = str(data.get("space", "LPS"))
        if not space.upper().startswith("LPS"):
            msg = f"{path} gives positions in {space!r}; expected LPS mm"
            raise DatasetError(msg)
        rows = [(name, point) for name, point in data["landmarks"].items()]
        named = (vertebra_named(name, str(path)) for name in data.get("partial", []))
        partial = frozenset(vertebra for vertebra in named if vertebra is not None)
        return _landmarks(rows, lambda points: points, str(path)), partial


def read_level_facts(path: Path) -> LevelFacts:
    """Read the `ribs` and `sacrum` of such a file; nothing where it has none.

    Raises:
        DatasetError: of another form than `level_facts` says.
    """
    return level_facts(_json(path), str(path))


def level_facts(data: Mapping[str, Any], where: str) -> LevelFacts:
    """Read `{"ribs": {"T12": ["rib", "stump"]}, "sacrum": [x, y, z]}`, left before right, LPS mm.

    Any other word than "rib", "stump" and "none" means that nothing is known of that side.

    Raises:
        DatasetError: of another form.
    """
    ribs: dict[Vertebra, tuple[Rib | None, Rib | None]] = {}
    try:
        for name, sides in (data.get("ribs") or {}).items():
            vertebra = vertebra_named(name, where)
            left, right = (Rib.__members__.get(str(side).upper()) for side in sides)
            if vertebra is not None:
                ribs[vertebra] = (left, right)
        sacrum = data.get("sacrum")
        point = None if sacrum is None else tuple(float(v) for v in sacrum)
    except (AttributeError, TypeError, ValueError) as error:
        msg = f"{where}: ribs or sacrum cannot be read ({error}); expected ribs: {{T12: [left, right]}}"
        raise DatasetError(msg) from error
    if point is not None and (len(point) != 3 or not np.all(np.isfinite(point))):
        msg = f"{where}: sacrum {sacrum!r}; expected three finite numbers"
        raise DatasetError(msg)
    return LevelFacts(ribs, point)


def read_csv_points(path: Path, grid: Grid | None = None, space: CsvSpace = "lps_mm") -> Landmarks:
    """Read rows of label (name or number), X, Y, Z; a header line and NaN rows are allowed.

    Args:
        path: the file.
        grid: of the image; needed for voxel coordinates.
        space: "lps_mm" (default), "ras_mm", or "voxel" = index (x, y, z) of the image as stored.

    Raises:
        DatasetError: a row that is not a label and three numbers; a vertebra given twice.
    """
    rows = []
    with reading_points(path), path.open(newline="", encoding="utf-8-sig") as file:
        for number, row in enumerate(csv.reader(file), start=1):
            cells = [cell.strip() for cell in row if cell.strip()]
            if not cells or cells[0].startswith("#") or (number == 1 and not _numeric(cells[1:])):
                continue
            if len(cells) != 4 or not _numeric(cells[1:]):
                msg = f"{path} line {number}: {','.join(row)!r}; expected label,X,Y,Z"
                raise DatasetError(msg)
            rows.append((cells[0], [float(cell) for cell in cells[1:]]))
    return _landmarks(rows, _csv_to_lps(grid, space, path), str(path))


def read_verse_points(
    path: Path,
    grid: Grid,
    convention: VerseConvention = "auto",
    labels: Volume | None = None,
) -> Landmarks:
    """Read a VerSe centroid list.

    The list of the subject-space release starts with {"direction": ["P", "I", "R"]} and holds
    voxel indices of the image in that orientation. The older lists have no direction and hold mm
    (1 mm isotropic) along P, I, R or along A, S, L; nothing in the file tells which.

    Args:
        path: the JSON file.
        grid: of the image, as stored.
        convention: "auto" reads a direction where there is one and else tries both old frames
            against the mask.
        labels: the mask, needed to tell the old frames apart.

    Raises:
        DatasetError: not such a list; an old list whose frame is not known for sure.
    """
    with reading_points(path):
        data = _json(path)
        rows = data if isinstance(data, list) else []
        entries = [entry for entry in rows if isinstance(entry, dict)]
        points = [
            (entry["label"], [entry["X"], entry["Y"], entry["Z"]])
            for entry in entries
            if {"label", "X", "Y", "Z"} <= set(entry)
        ]
        if not points:
            msg = f"{path} holds no vertebra; expected a VerSe list of {{label, X, Y, Z}}"
            raise DatasetError(msg)
        direction = next((entry["direction"] for entry in entries if "direction" in entry), None)
        if convention == "subject" or (convention == "auto" and direction is not None):
            return _landmarks(points, _subject_to_lps(direction, grid, path), str(path))
        if convention != "auto":
            return _landmarks(points, _iso_to_lps(_ISO_DIRECTIONS[convention], grid), str(path))
        return _iso_by_mask(points, grid, labels, path)


def _iso_by_mask(points: list, grid: Grid, labels: Volume | None, path: Path) -> Landmarks:
    """Choose the old frame whose points lie in their own masks; refuse where that is not clear."""
    tried = {
        name: _landmarks(points, _iso_to_lps(codes, grid), str(path))
        for name, codes in _ISO_DIRECTIONS.items()
    }
    if labels is not None:
        shares = {name: share_in_own_mask(marks, labels) for name, marks in tried.items()}
        best = max(shares, key=lambda name: shares[name])
        others = [share for name, share in shares.items() if name != best]
        if shares[best] >= _SURE and max(others) < _UNSURE:
            return tried[best]
    msg = (
        f"{path} has no 'direction' and its frame is not clear; expected the new VerSe format. "
        f"Choose the frame yourself: {' or '.join(_ISO_DIRECTIONS)}"
    )
    raise DatasetError(msg)


def share_in_own_mask(landmarks: Landmarks, labels: Volume, reach_voxels: int = 1) -> float:
    """Return the share of landmarks with their own label within `reach_voxels` of their voxel."""
    if not landmarks:
        return 0.0
    index = np.rint(labels.grid.map_world_to_indices(landmarks.positions_mm)).astype(int)
    hits = 0
    for vertebra, zyx in zip(landmarks, index, strict=True):
        low = np.clip(zyx - reach_voxels, 0, labels.array.shape)
        high = np.clip(zyx + reach_voxels + 1, 0, labels.array.shape)
        block = labels.array[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
        hits += bool(np.any(block == vertebra.verse_label))
    return hits / len(landmarks)


def _subject_to_lps(direction: Any, grid: Grid, path: Path) -> Callable[[np.ndarray], np.ndarray]:
    """Map voxel indices of the image in orientation `direction` to LPS mm."""
    codes = [str(code).upper() for code in direction] if direction else list(axis_codes(grid))
    known = len(codes) == 3 and all(code in _AXIS for code in codes)
    if not known or len({_AXIS[code][0] for code in codes}) != 3:
        msg = f"{path}: direction {direction!r}; expected three codes such as ['P', 'I', 'R']"
        raise DatasetError(msg)
    stored = [_AXIS[code] for code in axis_codes(grid)]
    size_xyz = np.asarray(grid.shape[::-1])

    def to_lps(points: np.ndarray) -> np.ndarray:
        index_xyz = np.empty_like(points)
        for column, code in enumerate(codes):
            world, sign = _AXIS[code]
            axis = next(k for k, (other, _) in enumerate(stored) if other == world)
            # An axis that runs the other way counts from the other end: size - 1 - c.
            value = points[:, column]
            turned = stored[axis][1] != sign
            index_xyz[:, axis] = size_xyz[axis] - 1 - value if turned else value
        return grid.map_indices_to_world(index_xyz[:, ::-1])

    return to_lps


def _iso_to_lps(codes: str, grid: Grid) -> Callable[[np.ndarray], np.ndarray]:
    """Map mm along three anatomical axes, from the first voxel's centre there, to LPS mm."""
    spacing = {_AXIS[c][0]: s for c, s in zip(axis_codes(grid), grid.spacing_mm, strict=True)}
    scale = np.array([spacing[_AXIS[code][0]] for code in codes])
    to_lps = _subject_to_lps(list(codes), grid, Path())
    return lambda points: to_lps(points / scale)


def _csv_to_lps(
    grid: Grid | None, space: CsvSpace, path: Path
) -> Callable[[np.ndarray], np.ndarray]:
    if space == "lps_mm":
        return lambda points: points
    if space == "ras_mm":
        return lambda points: points * (-1.0, -1.0, 1.0)
    if grid is None:
        msg = f"{path}: voxel coordinates need the image's grid; none was given"
        raise DatasetError(msg)
    return lambda points: grid.map_indices_to_world(points[:, ::-1])


def _landmarks(
    rows: Iterable[tuple[str | int, Any]],
    to_lps: Callable[[np.ndarray], np.ndarray],
    where: str,
) -> Landmarks:
    """Name the vertebrae, leave out NaN points and the sacrum, and map to LPS."""
    vertebrae, points = [], []
    for label, point in rows:
        vertebra = vertebra_named(label, where)
        position = np.asarray(point, float)
        if vertebra is None or position.shape != (3,) or not np.all(np.isfinite(position)):
            continue
        vertebrae.append(vertebra)
        points.append(position)
    twice = sorted({v.name for v in vertebrae if vertebrae.count(v) > 1})
    if twice:
        msg = f"{where}: {', '.join(twice)} given twice; expected each vertebra once"
        raise DatasetError(msg)
    moved = to_lps(np.asarray(points, float).reshape(-1, 3))
    return Landmarks(Landmark(v, tuple(p)) for v, p in zip(vertebrae, moved, strict=True))


def _numeric(cells: list[str]) -> bool:
    try:
        return len([float(cell) for cell in cells]) > 0
    except ValueError:
        return False


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
