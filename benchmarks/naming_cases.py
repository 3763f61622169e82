"""What both networks of stage 2 say about marked scans and harder versions of them, kept in files.

The networks run once per version; fitting the decoder then reads small files. The level network is asked
by the fold that has not seen the patient.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from naming import Namer, marked_scans
from scan_variants import MarkedScan, child, mirrored, rotated, slabs, without_spine

from payerseg.domain.grid import Grid
from payerseg.domain.landmarks import Landmark, Landmarks
from payerseg.domain.spine_box import SpineBox
from payerseg.domain.vertebra import Vertebra
from payerseg.domain.volume import Volume
from payerseg.errors import SpineNotFound
from payerseg.imaging.files import read_volume, write_volume
from payerseg.postprocess.naming import Found, find_places, found_from_record, found_record
from payerseg.preprocess.inputs import vertebrae_input

SLABS = tuple((height, side) for side in (60, 30) for height in (150, 100, 60))
"""Heights and half widths, mm."""
TILT_DEG = 20.0
UNSEEN_BLOCK_MM = 120.0
"""What stage 2 is shown where stage 1 sees no spine."""


@dataclass(frozen=True, slots=True)
class NamingCase:
    """One version of a scan as the decoder gets it.

    Attributes:
        name: scan/version; the scan's own name is before the first slash.
        found: places, and what the networks say of them.
        truth, unmarked: vertebrae that must, and that may be found.
        field: the version's grid.
        boxed: whether stage 1 saw a spine.
    """

    name: str
    found: Found
    truth: Landmarks
    unmarked: frozenset[Vertebra]
    field: Grid
    boxed: bool

    @property
    def scan(self) -> str:
        """The scan that this is a version of."""
        return self.name.split("/")[0]

    @property
    def kind(self) -> str:
        """The group it is counted in."""
        parts = self.name.split("/")
        if not self.truth:
            return "no spine"
        if len(parts) == 1:
            return "whole"
        return f"{parts[1]} ±{parts[2]} mm" if parts[1].endswith("mm") else parts[1]

    def write(self, path: Path) -> None:
        """Write it as JSON."""
        data = {
            "name": self.name,
            "found": found_record(self.found),
            "truth": {v.name: list(mark.position_mm) for v, mark in self.truth.items()},
            "unmarked": sorted(v.name for v in self.unmarked),
            "shape": list(self.field.shape),
            "matrix": self.field.matrix.tolist(),
            "boxed": self.boxed,
        }
        path.write_text(json.dumps(data), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> NamingCase:
        """Read what `write` wrote."""
        data = json.loads(path.read_text(encoding="utf-8"))
        marks = [Landmark(Vertebra[name], tuple(point)) for name, point in data["truth"].items()]
        return cls(
            data["name"],
            found_from_record(data["found"]),
            Landmarks(marks),
            frozenset(Vertebra[name] for name in data["unmarked"]),
            Grid.from_matrix(tuple(data["shape"]), np.array(data["matrix"])),
            data["boxed"],
        )


def versions(scan: MarkedScan, every: int) -> Iterator[MarkedScan]:
    """Yield the scan, some slabs of it, small, mirrored and tilted ones, and a part without spine."""
    yield scan
    for kind, (height, side) in enumerate(SLABS):
        cuts = list(slabs(scan, height, side))
        for number in range(kind % every if len(cuts) > kind % every else 0, len(cuts), every):
            yield cuts[number]
    small = child(scan)
    yield small
    yield replace(child(small), name=f"{scan.name}/toddler")
    yield mirrored(scan, 1)
    yield rotated(scan, 0, TILT_DEG * (1 if len(scan.name) % 2 else -1))
    yield from without_spine(scan)[1:2]


def run_heatmaps(scan: MarkedScan, namer: Namer) -> NamingCase:
    """Return what stages 1 and 2 say about one version, the level network apart."""
    try:
        box, boxed = namer.box(scan.ct), True
    except SpineNotFound:
        centre = scan.ct.grid.corners_mm().mean(axis=0)
        half = UNSEEN_BLOCK_MM / 2
        box, boxed = SpineBox(tuple(centre - half), tuple(centre + half)), False
    card = namer.labels.card
    seen = vertebrae_input(scan.ct, box, card.sampling)
    heatmaps = namer.name.predict_both_ways(seen, namer.naming_config.mirror_below_mm)
    found = find_places(heatmaps, card, namer.naming_config, scan.ct.grid)
    return NamingCase(scan.name, found, scan.truth, scan.unmarked, scan.ct.grid, boxed)


def cases_of(data: Path, split: str, namer: Namer, folder: Path, every: int) -> list[NamingCase]:
    """Return the cases of a split without levels, from the folder where they are already there."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "complete").exists():
        for scan in marked_scans(data, split):
            for version in versions(scan, every):
                path = folder / f"{version.name.replace('/', '__')}.json"
                if not path.exists():
                    write_volume(version.ct, path.with_suffix(".nii.gz"))
                    run_heatmaps(version, namer).write(path)
        (folder / "complete").touch()
    return [NamingCase.read(path) for path in sorted(folder.glob("*.json"))]


Ask = Callable[[Volume, np.ndarray], np.ndarray]


def with_levels(
    cases: list[NamingCase], folder: Path, asks: Callable[[str], Ask], tag: str
) -> list[NamingCase]:
    """Return the cases with the answers of the level network that has not seen the scan's patient.

    Args:
        cases: of `cases_of`.
        folder: theirs.
        asks: scan to the level network to ask.
        tag: names these networks; answers are kept under it.
    """
    out = []
    for case in cases:
        stem = case.name.replace("/", "__")
        path = folder / f"{stem}.{tag}.npy"
        if not path.exists():
            ct = read_volume(folder / f"{stem}.nii.gz")
            np.save(path, asks(case.scan)(ct, case.found.places.positions_mm))
        answers = np.load(path, allow_pickle=False)
        out.append(replace(case, found=replace(case.found, answers=answers)))
    return out
