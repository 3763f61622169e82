"""Write harder versions of marked scans as a data set of their own, with their truth and their groups.

    python benchmarks/variants.py DATA OUT
    payerseg run OUT/images -o RESULTS --to-stage vertebrae_localization
    payerseg evaluate RESULTS --truth OUT --groups OUT/groups.csv -o SCORES

DATA is a data set that `payerseg train` reads. Short and narrow slabs, children, mirrored, tilted, thick and
noisy scans, cut-outs and volumes without a spine; versions that must change nothing (1.25 mm, 5 degrees, one
voxel less at each face, a little noise); and, where DATA holds label maps, spines composed of several
people with L6, with T13 and without T12. Cases that OUT holds already are left alone.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import click
import numpy as np

from payerseg.datasets.cases import with_centers
from payerseg.datasets.discover import discover, read_case
from payerseg.datasets.layouts import read_catalog
from payerseg.domain.grid import Grid
from payerseg.domain.landmarks import Landmarks
from payerseg.domain.vertebra import Vertebra
from payerseg.domain.volume import Volume
from payerseg.imaging.files import read_volume
from payerseg.imaging.orient import to_canonical
from payerseg.imaging.resample import box_shrink, resample
from payerseg.synthesis.dataset import DatasetFolder, ScanRecipe
from payerseg.synthesis.library import TORSO_FILES, ShapeLibrary, read_library
from payerseg.synthesis.scans import NEGATIVES, synthesize_negative
from payerseg.training.augment import rotation_matrix

CUT_MM = 10.0
"""A vertebra whose centre is nearer to a cut than this is cut itself: neither asked for nor an error."""
SLAB_STEP_MM, BEHIND_MM = 30.0, 20.0
"""Between slabs; more room behind the bodies, where the spinous processes lie."""
AIR_HU = -1024.0
FRONT_MM, BESIDE_MM, ABOVE_C1_MM, SMALLEST_PART_MM = 45.0, 55.0, 30.0, 50.0
"""Where vertebrae with all their processes have ended, and what is too small to be a scan."""
COMPOSED = ("usual", "l6", "t13", "no_t12")
COMPOSED_SPACING_MM, COMPOSED_SEED, COMPOSED_COUNT = 2.5, 7100, 10
"""With less to see than the whole spine nobody can tell a T13 or a missing T12."""
EMPTY = "volumes without spine"


@dataclass(frozen=True, slots=True)
class MarkedScan:
    """A scan with its truth.

    Attributes:
        name: of the scan and what was done to it.
        ct: HU, canonical order.
        truth: vertebrae that must be found.
        unmarked: vertebrae that may be found.
        labels: masks of the whole scan; None for versions.
    """

    name: str
    ct: Volume
    truth: Landmarks
    unmarked: frozenset[Vertebra] = frozenset()
    labels: Volume | None = None

    def changed(
        self, what: str, ct: Volume, move: Callable[[np.ndarray], np.ndarray] | None = None
    ) -> MarkedScan:
        """Return a version: other voxels, and marks that moved with them."""
        truth = self.truth.moved(move) if move else self.truth
        return MarkedScan(f"{self.name}--{what}", ct, truth, self.unmarked)


def slabs(scan: MarkedScan, height_mm: float, side_mm: float, every: int) -> Iterator[MarkedScan]:
    """Cut axial slabs at every 30 mm, `side_mm` to each side of the spine within.

    Slabs without a whole vertebra are left out, and so are those that are the whole scan.
    """
    low, high = scan.ct.grid.corners_mm()[:, 2].min(), scan.ct.grid.corners_mm()[:, 2].max()
    for start in np.arange(low, high - height_mm + 1e-6, SLAB_STEP_MM * every):
        stop = start + height_mm
        inside = {
            v: m for v, m in scan.truth.items() if start + CUT_MM < m.position_mm[2] < stop - CUT_MM
        }
        if not inside or height_mm >= high - low:
            continue
        points = np.array([m.position_mm for m in inside.values()])
        box_low = np.array([*(points.min(axis=0) - side_mm)[:2], start])
        box_high = np.array([*(points.max(axis=0) + side_mm)[:2], stop])
        box_high[1] += BEHIND_MM
        cut = frozenset(v for v in scan.truth if v not in inside) | scan.unmarked
        name = f"{scan.name}--slab{height_mm:.0f}x{side_mm:.0f}at{start - low:.0f}"
        yield MarkedScan(
            name, _cropped(scan.ct, box_low, box_high), Landmarks(inside.values()), cut
        )


def _cropped(ct: Volume, low_mm: np.ndarray, high_mm: np.ndarray) -> Volume:
    """Return the voxels of an axis-aligned scan inside a world box."""
    ends = ct.grid.map_world_to_indices(np.array([low_mm, high_mm]))
    start = np.clip(np.ceil(ends.min(axis=0)), 0, np.array(ct.grid.shape) - 1).astype(int)
    stop = np.clip(np.floor(ends.max(axis=0)) + 1, start + 1, ct.grid.shape).astype(int)
    return ct.cropped(tuple(start.tolist()), tuple(stop.tolist()))


def smaller(scan: MarkedScan, scale: float) -> MarkedScan:
    """Shrink the patient."""
    grid = scan.ct.grid
    spacing, origin = (tuple(np.multiply(v, scale)) for v in (grid.spacing_mm, grid.origin_mm))
    small = Grid(grid.shape, spacing, origin, grid.direction)
    return scan.changed(f"child{scale:g}", Volume(scan.ct.array, small), lambda p: p * scale)


def mirrored(scan: MarkedScan, axis_xyz: int) -> MarkedScan:
    """Store the voxels back to front along an axis, as a wrong header does."""
    grid, axis = scan.ct.grid, 2 - axis_xyz

    def flip(points: np.ndarray) -> np.ndarray:
        zyx = grid.map_world_to_indices(points)
        zyx[:, axis] = grid.shape[axis] - 1 - zyx[:, axis]
        return grid.map_indices_to_world(zyx)

    array = np.ascontiguousarray(np.flip(scan.ct.array, axis))
    return scan.changed(f"mirror_{'xyz'[axis_xyz]}", Volume(array, grid), flip)


def turned(scan: MarkedScan, axis_xyz: int, degrees: float) -> MarkedScan:
    """Turn the patient about the scan's centre; the voxels stay, the header turns."""
    turn = rotation_matrix(np.radians(degrees) * np.eye(3)[axis_xyz])
    grid = scan.ct.grid
    centre = grid.corners_mm().mean(axis=0)
    matrix = grid.matrix
    matrix[:3, :3] = turn @ matrix[:3, :3]
    matrix[:3, 3] = turn @ (matrix[:3, 3] - centre) + centre
    ct = Volume(scan.ct.array, Grid.from_matrix(grid.shape, matrix))
    name = f"turn_{'xyz'[axis_xyz]}{degrees:g}"
    return scan.changed(name, ct, lambda p: (p - centre) @ turn.T + centre)


def tilted(scan: MarkedScan, degrees: float) -> Iterator[MarkedScan]:
    """Turn about each axis, one way or the other."""
    for axis in range(3):
        yield turned(scan, axis, degrees * (1 if (len(scan.name) + axis) % 2 else -1))


def thick(scan: MarkedScan, slice_mm: float) -> MarkedScan:
    """Average slices to about a thickness."""
    factor = max(1, round(slice_mm / scan.ct.grid.spacing_mm[2]))
    return scan.changed(f"slices{slice_mm:g}", box_shrink(scan.ct, (factor, 1, 1)))


def resampled(scan: MarkedScan, spacing_mm: float) -> MarkedScan:
    """Bring the voxels to another size, within the same faces."""
    grid = scan.ct.grid
    shape = tuple(max(1, round(n)) for n in np.divide(grid.extent_mm[::-1], spacing_mm))
    first = grid.map_indices_to_world(np.full((1, 3), -0.5))[0]
    inward = np.sign(np.diag(grid.matrix)[:3]) * spacing_mm / 2
    wanted = Grid(shape, (spacing_mm,) * 3, tuple(first + inward), grid.direction)
    found = resample(scan.ct, wanted, outside=AIR_HU)
    ct = found.with_array(np.rint(found.array).astype(np.int16))
    return scan.changed(f"voxels{spacing_mm:g}", ct)


def noisy(scan: MarkedScan, sigma_hu: float) -> MarkedScan:
    """Add white noise."""
    noise = np.random.default_rng(0).normal(0, sigma_hu, scan.ct.array.shape)
    ct = scan.ct.with_array((scan.ct.array + noise).astype(np.int16))
    return scan.changed(f"noise{sigma_hu:.0f}", ct)


def shaved(scan: MarkedScan) -> MarkedScan:
    """Cut one voxel off at each face; a vertebra that leaves the scan is no longer asked for."""
    stop = tuple(n - 1 for n in scan.ct.grid.shape)
    ct = scan.ct.cropped((1, 1, 1), stop)
    inside = {v: m for v, m in scan.truth.items() if ct.grid.contains([m.position_mm])[0]}
    out = frozenset(v for v in scan.truth if v not in inside)
    return replace(
        scan.changed("shaved", ct),
        truth=Landmarks(inside.values()),
        unmarked=scan.unmarked | out,
    )


def without_spine(scan: MarkedScan) -> Iterator[MarkedScan]:
    """Cut out what lies in front of, left and right of the spine and above C1; none shows a vertebra."""
    corners = scan.ct.grid.corners_mm()
    low, high = corners.min(axis=0), corners.max(axis=0)
    points = scan.truth.positions_mm
    first, last = points.min(axis=0), points.max(axis=0)
    parts = {
        "front": (low, np.array([high[0], first[1] - FRONT_MM, high[2]])),
        "right": (low, np.array([first[0] - BESIDE_MM, high[1], high[2]])),
        "left": (np.array([last[0] + BESIDE_MM, low[1], low[2]]), high),
    }
    if Vertebra.C1 in scan.truth:
        above = scan.truth[Vertebra.C1].position_mm[2] + ABOVE_C1_MM
        parts["above"] = (np.array([low[0], low[1], above]), high)
    for name, (a, b) in parts.items():
        if np.all(b - a >= SMALLEST_PART_MM):
            yield MarkedScan(f"{scan.name}--{name}", _cropped(scan.ct, a, b), Landmarks())


Make = Callable[[MarkedScan], MarkedScan | Iterator[MarkedScan]]


def versions(every: int) -> dict[str, Make]:
    """Return what makes the versions of a scan, by group; of slabs every so-many-th."""
    return {
        "whole": lambda scan: scan,
        **{
            f"slab {height} mm ±{side}": partial(slabs, height_mm=height, side_mm=side, every=every)
            for height in (150, 100, 60)
            for side in (60, 30)
        },
        "child 0.75": partial(smaller, scale=0.75),
        "child 0.6": partial(smaller, scale=0.6),
        "mirrored left-right": partial(mirrored, axis_xyz=0),
        "mirrored front-back": partial(mirrored, axis_xyz=1),
        "tilted 25°": partial(tilted, degrees=25.0),
        "5 mm slices": partial(thick, slice_mm=5.0),
        "+20 HU noise": partial(noisy, sigma_hu=20.0),
        "same: 1.25 mm": partial(resampled, spacing_mm=1.25),
        "same: 5°": partial(turned, axis_xyz=0, degrees=5.0),
        "same: one voxel less": shaved,
        "same: +10 HU noise": partial(noisy, sigma_hu=10.0),
        "parts without spine": without_spine,
    }


def marked_scans(data: Path, split: str) -> Iterator[tuple[MarkedScan, dict[str, str]]]:
    """Yield the scans of a split that have marks, from files or from masks, and whose they are."""
    for files in discover(data).cases:
        if split and files.split != split:
            continue
        case = read_case(files)
        labels = to_canonical(read_volume(case.labels))[0] if case.labels else None
        if not case.landmarks and labels is not None:
            case = with_centers(case, labels)
        if case.landmarks:
            ct = to_canonical(read_volume(case.image))[0]
            facts = {"patient": case.patient_id, "source": case.source, "licence": case.licence}
            yield MarkedScan(case.case_id, ct, case.landmarks, case.partial, labels), facts


def composing_library(data: Path, split: str) -> ShapeLibrary | None:
    """Return the vertebrae of a split's label maps, and bodies of the others; None where there are none."""
    rows = (
        [row for row in read_catalog(data) if row.folder == "labels"]
        if (data / "labels").is_dir()
        else []
    )
    own = [data / "labels" / row.name for row in rows if row.split == split]
    known = [data / "labels" / row.name for row in rows if row.split != split]
    bodies = [folder for folder in known if any((folder / name).is_file() for name in TORSO_FILES)]
    if not own:
        return None
    return ShapeLibrary(read_library(own).spines, read_library(bodies).torsos if bodies else ())


@dataclass
class VariantFolder:
    """The data set being written.

    Attributes:
        root: holds what `DatasetFolder` describes, and groups.csv.
    """

    root: Path

    def __post_init__(self) -> None:
        self.scans = DatasetFolder(self.root)

    def add(self, scan: MarkedScan, group: str, facts: dict[str, str]) -> None:
        """Write one version, unless it is there."""
        if not self.scans.holds(scan.name):
            self.note(scan.name, group)
            partly = {"partial": sorted(v.name for v in scan.unmarked), "note": group}
            self.scans.write(scan.name, scan.ct, scan.truth, facts | partly, scan.labels)

    def note(self, case_id: str, group: str) -> None:
        """Add a case to groups.csv."""
        path = self.root / "groups.csv"
        new = not path.exists()
        with path.open("a", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("case", "group")] * new + [(case_id, group)])


@click.command(help=__doc__)
@click.argument("data", type=click.Path(path_type=Path, exists=True))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--split", default="val", show_default=True, help='Which scans; "" = all.')
@click.option("--only", multiple=True, help="Groups whose name holds this; repeatable; else all.")
@click.option("--every", default=1, show_default=True, help="Take every so-many-th slab.")
@click.option("--composed", default=COMPOSED_COUNT, show_default=True, help="Of each kind.")
def main(
    data: Path, out: Path, split: str, only: tuple[str, ...], every: int, composed: int
) -> None:
    """Write."""
    out.mkdir(parents=True, exist_ok=True)
    folder = VariantFolder(out)

    def wanted(group: str) -> bool:
        return not only or any(word in group for word in only)

    made = {group: make for group, make in versions(every).items() if wanted(group)}
    for scan, facts in marked_scans(data, split) if made else ():
        for group, make in made.items():
            found = make(scan)
            for version in [found] if isinstance(found, MarkedScan) else found:
                folder.add(version, group, facts)
        click.echo(scan.name, err=True)
    for kind in NEGATIVES if wanted(EMPTY) else ():
        for seed in range(3):
            empty = MarkedScan(f"{kind}{seed}", synthesize_negative(kind, seed), Landmarks())
            folder.add(empty, EMPTY, {"source": "numbers"})
    kinds = [kind for kind in COMPOSED if wanted(f"composed, {kind}")]
    library = composing_library(data, split) if kinds and composed else None
    for kind in kinds if library is not None else ():
        for seed in range(COMPOSED_SEED, COMPOSED_SEED + composed):
            recipe = ScanRecipe(kind, "spine", COMPOSED_SPACING_MM, seed)
            folder.note(recipe.case_id, f"composed, {kind}")
            recipe.write(library, out)


if __name__ == "__main__":
    main()
