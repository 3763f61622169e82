"""What stage 2's network says about training scans and harder versions of them, kept for calibration.

The networks run once per version; fitting the decoder then reads small files. Candidates are of the
weights that made them, so the folder of a cache is named after them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scan_variants import (
    MarkedScan,
    child,
    noisy,
    rotated,
    slabs,
    thick,
    without_spine,
)

from payerseg.domain.grid import Grid
from payerseg.domain.landmarks import Landmark, Landmarks
from payerseg.domain.vertebra import Vertebra
from payerseg.postprocess.calibration import DecodedExample
from payerseg.postprocess.peaks import Candidate

TILTS_DEG = (-20.0, 20.0)
LONG_MM = 150
SLABS = tuple((height, side) for side in (60, 30) for height in (60, 100, LONG_MM))
"""Heights and half widths, mm."""


@dataclass(frozen=True, slots=True)
class Case:
    """One version of a scan as the decoder gets it.

    Attributes:
        name: scan/version; the scan's own name is before the first slash.
        example: candidates, truth and field.
        unmarked: vertebrae that may be found.
        boxed: whether stage 1 saw a spine; if not, stage 2 was shown the whole volume all the same.
    """

    name: str
    example: DecodedExample
    unmarked: frozenset[Vertebra]
    boxed: bool

    @property
    def scan(self) -> str:
        """The scan that this is a version of."""
        return self.name.split("/")[0]

    @property
    def kind(self) -> str:
        """The group it is counted in."""
        parts = self.name.split("/")
        if not self.example.truth:
            return "no spine"
        if "mm" not in self.name:
            return "whole"
        height, side = parts[1], parts[2]
        return f"{height} ±{side} mm" + (", altered" if len(parts) > 4 else "")

    def write(self, path: Path) -> None:
        """Write it as .npz."""
        found, truth, field = self.example.candidates, self.example.truth, self.example.field
        np.savez_compressed(
            path,
            name=self.name,
            channel=np.array([c.channel for c in found], int),
            position_mm=np.array([c.position_mm for c in found]).reshape(-1, 3),
            value=np.array([c.value for c in found]),
            channel_values=np.array([c.channel_values for c in found]),
            truth=np.array([v.name for v in truth], str),
            truth_mm=truth.positions_mm.reshape(-1, 3),
            unmarked=np.array([v.name for v in self.unmarked], str),
            field_shape=np.array(field.shape),
            field_matrix=field.matrix,
            boxed=self.boxed,
        )

    @classmethod
    def read(cls, path: Path) -> Case:
        """Read what `write` wrote."""
        with np.load(path) as data:
            candidates = [
                Candidate(int(channel), tuple(point), float(value), tuple(values))
                for channel, point, value, values in zip(
                    data["channel"], data["position_mm"].tolist(), data["value"],
                    data["channel_values"].tolist(), strict=True,
                )
            ]  # fmt: skip
            truth = Landmarks(
                Landmark(Vertebra[name], tuple(point))
                for name, point in zip(
                    data["truth"].tolist(), data["truth_mm"].tolist(), strict=True
                )
            )
            field = Grid.from_matrix(tuple(data["field_shape"].tolist()), data["field_matrix"])
            example = DecodedExample(candidates, truth, field)
            unmarked = frozenset(Vertebra[name] for name in data["unmarked"].tolist())
            return cls(str(data["name"]), example, unmarked, bool(data["boxed"]))


def versions(scan: MarkedScan, every: int) -> Iterator[MarkedScan]:
    """Yield slabs of the scan, some of them altered, the scan itself and a part without a spine.

    Of each kind of slab every so-many-th is taken, wide and narrow ones at different heights.
    """
    for kind, (height, side) in enumerate(SLABS):
        cuts = list(slabs(scan, height, side))
        for number in range(kind % every, len(cuts), every):
            yield cuts[number]
            if (number + kind) % 2 and height < LONG_MM:
                yield altered(cuts[number], number + kind)
    yield scan
    yield from without_spine(scan)[1:2]


def altered(cut: MarkedScan, number: int) -> MarkedScan:
    """Tilt, shrink, mirror, blur or spoil a slab, by turns."""
    changes = (
        lambda s: rotated(s, 0, TILTS_DEG[0]),
        lambda s: rotated(s, 0, TILTS_DEG[1]),
        lambda s: rotated(s, 1, TILTS_DEG[number % 2]),
        noisy,
        child,
        thick,
    )
    return changes[number % len(changes)](cut)
