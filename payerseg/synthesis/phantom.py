"""A scan from numbers alone: needs no data, the same seed gives the same bytes."""

from __future__ import annotations

from payerseg.domain.vertebra import Vertebra
from payerseg.synthesis.phantom_shapes import phantom_library
from payerseg.synthesis.scans import Extent, SyntheticScan, synthesize_spine

PHANTOM_EXTENT = Extent(
    (2.0, 2.0, 2.0), side_mm=165.0, front_mm=150.0, back_mm=105.0, above_mm=35.0, below_mm=40.0,
    first=Vertebra.C7, last=Vertebra.L5,
)  # fmt: skip
"""A trunk: 18 vertebrae in about 3 million voxels."""


def make_phantom(
    seed: int = 0, variant: str = "usual", extent: Extent | None = None
) -> SyntheticScan:
    """Return a coarse labelled scan whose truth is exact, in two or three seconds.

    Args:
        seed: decides everything.
        variant: one of `compose.VARIANTS`.
        extent: the volume; by default the trunk at 2 mm.
    """
    return synthesize_spine(phantom_library(), seed, variant, extent or PHANTOM_EXTENT)
