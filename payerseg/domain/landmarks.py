"""Vertebra centres: an immutable mapping, head to foot; an absent vertebra is not there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from payerseg.domain.vertebra import Vertebra

Point = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Landmark:
    """One vertebra centre.

    Attributes:
        vertebra: which one.
        position_mm: LPS (x, y, z), physical space of the scan.
        score: how sure, 0..1; 1 for a person's mark.
        flags: short reasons to look again, e.g. "bridged", "near_border", "edited".
    """

    vertebra: Vertebra
    position_mm: Point
    score: float = 1.0
    flags: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        position = tuple(float(v) for v in self.position_mm)
        if len(position) != 3 or not all(np.isfinite(v) for v in position):
            msg = f"{self.vertebra.name}: position {self.position_mm} is not three finite mm"
            raise ValueError(msg)
        object.__setattr__(self, "position_mm", position)
        object.__setattr__(self, "score", float(self.score))


class Landmarks(Mapping[Vertebra, Landmark]):
    """All landmarks of one scan.

    Raises:
        ValueError: one vertebra is given twice.
    """

    __slots__ = ("_by_vertebra",)

    def __init__(self, landmarks: Iterable[Landmark] = ()) -> None:
        ordered = sorted(landmarks, key=lambda landmark: landmark.vertebra.rank)
        self._by_vertebra = {landmark.vertebra: landmark for landmark in ordered}
        if len(self._by_vertebra) != len(ordered):
            names = [landmark.vertebra.name for landmark in ordered]
            msg = f"a vertebra is given twice in {names}"
            raise ValueError(msg)

    def __getitem__(self, vertebra: Vertebra) -> Landmark:
        return self._by_vertebra[vertebra]

    def __iter__(self) -> Iterator[Vertebra]:
        return iter(self._by_vertebra)

    def __len__(self) -> int:
        return len(self._by_vertebra)

    def __repr__(self) -> str:
        return f"Landmarks({', '.join(v.name for v in self)})"

    @property
    def positions_mm(self) -> np.ndarray:
        """(n, 3) LPS mm, head to foot."""
        return np.array([mark.position_mm for mark in self.values()], float).reshape(-1, 3)

    def moved(self, map_points: Callable[[np.ndarray], np.ndarray]) -> Landmarks:
        """Return landmarks whose positions went through `map_points` ((n, 3) → (n, 3) mm)."""
        if not self:
            return self
        moved = map_points(self.positions_mm)
        return Landmarks(
            replace(mark, position_mm=tuple(p))
            for mark, p in zip(self.values(), moved, strict=True)
        )
