"""Choose vertebrae for a spine: one person's, or a whole spine from several people."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np

from payerseg.domain.vertebra import Vertebra
from payerseg.errors import DatasetError
from payerseg.synthesis.curves import Curvature
from payerseg.synthesis.library import ShapeLibrary
from payerseg.synthesis.poses import Fracture, JointTurns, Pick, PosedVertebra, chain, rotation
from payerseg.synthesis.shapes import SpineShapes, VertebraShape
from payerseg.synthesis.spine_axis import LEVEL_SPACING_MM

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
