"""What the command asks for: which library, which scan, under which name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from payerseg.errors import DatasetError
from payerseg.synthesis.dataset import DatasetFolder, ShapeOrigin
from payerseg.synthesis.library import (
    VERTEBRAE_FILE,
    ShapeLibrary,
    joined,
    load_library,
    read_library,
)
from payerseg.synthesis.negatives import NEGATIVES, synthesize_negative
from payerseg.synthesis.phantom import phantom_library
from payerseg.synthesis.scans import (
    BODY_3MM,
    Extent,
    SyntheticScan,
    synthesize_from_spine,
    synthesize_spine,
)


@dataclass(frozen=True, slots=True)
class Recipe:
    """One scan to make.

    Attributes:
        variant: one of `compose.VARIANTS` or `negatives.NEGATIVES`.
        view: "body", "spine" (whole spine, 150 mm wide) or "one" (one label map's vertebrae).
        spacing_mm: voxel size; None = 3 for a body, else 1.
        seed: decides everything.
    """

    variant: str
    view: str
    spacing_mm: float | None
    seed: int

    @property
    def case_id(self) -> str:
        """The name of the scan in its data set."""
        return f"synth_{self.variant}_{self.view}_{self.seed:06d}"

    def write(
        self, library: ShapeLibrary, out: Path, origins: Mapping[str, ShapeOrigin] | None = None
    ) -> bool:
        """Make the scan and write it; False where the data set holds it already.

        Args:
            library: shapes.
            out: the data set.
            origins: by name of label map; one that is not there is named by its folder.
        """
        folder = DatasetFolder(out)
        if folder.holds(self.case_id):
            return False
        note = f"synthetic, variant {self.variant}, view {self.view}, seed {self.seed}"
        if self.variant in NEGATIVES:
            ct = synthesize_negative(self.variant, self.seed, spacing_mm=self.spacing_mm or 2.5)
            folder.add_negative(self.case_id, ct, note)
        else:
            scan = self.make(library)
            # organs may come from any torso, so each of them is named
            used = {name.split(":")[0] for name in scan.notes.values()}
            used |= {torso.source for torso in library.torsos}
            named = {name: (origins or {}).get(name, ShapeOrigin(name)) for name in sorted(used)}
            folder.add(self.case_id, scan, note, named)
        return True

    def make(self, library: ShapeLibrary) -> SyntheticScan:
        """Make the scan (of a spine)."""
        if self.view == "one":
            rng = np.random.default_rng([self.seed, 1])
            spine = library.spines[int(rng.integers(len(library.spines)))]
            return synthesize_from_spine(spine, library, self.seed, self._extent(Extent()))
        if self.view == "spine":
            return synthesize_spine(library, self.seed, self.variant, self._extent(Extent()))
        extent = (
            None if self.spacing_mm in (None, BODY_3MM.spacing_mm[0]) else self._extent(BODY_3MM)
        )
        return synthesize_spine(library, self.seed, self.variant, extent)

    def _extent(self, extent: Extent) -> Extent:
        if self.spacing_mm is None:
            return extent
        return replace(extent, spacing_mm=(self.spacing_mm,) * 3)


def gather_library(paths: Iterable[Path]) -> ShapeLibrary:
    """Read label-map folders, folders of such folders and packed files; none at all = the phantom.

    Raises:
        DatasetError: a path holds no label map.
    """
    folders, packed = [], []
    for path in paths:
        if path.is_file():
            packed.append(load_library(path))
        elif (path / VERTEBRAE_FILE).is_file():
            folders.append(path)
        else:
            below = sorted(p.parent for p in path.glob(f"*/{VERTEBRAE_FILE}"))
            if not below:
                msg = f"{path} holds no {VERTEBRAE_FILE}, itself or one folder below"
                raise DatasetError(msg)
            folders += below
    if folders:
        packed.append(read_library(folders))
    return joined(packed) if packed else phantom_library()
