"""The best chain, how probable each name is, and the best other chains: exact, by two sweeps.

Labels only grow head to foot, so the chains form an acyclic graph; one sweep down and one up give the
best (max) or the summed (log-sum-exp) score of all chains through every state.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from payerseg.postprocess.chain_model import N_LABELS, ChainModel, Move


@dataclass(frozen=True, slots=True)
class Step:
    """One found vertebra of a chain: its place, its rank, and the move that led to it (None at the top)."""

    place: int
    rank: int
    move: Move | None


@dataclass(frozen=True, slots=True)
class Chain:
    """A named chain, head to foot.

    Attributes:
        steps: at least one.
        score: nats.
        hypothesis: index of the size and header hypothesis.
    """

    steps: tuple[Step, ...]
    score: float
    hypothesis: int

    @property
    def names(self) -> dict[int, int]:
        """The rank of each place."""
        return {step.place: step.rank for step in self.steps}


@dataclass(frozen=True, slots=True)
class ChainSearch:
    """Swept scores of one model.

    Attributes:
        model: what was swept.
        down, up: (26, h, n) best score of chains ending in a state (its node included), and of their
            continuations (its node not included).
    """

    model: ChainModel
    down: np.ndarray
    up: np.ndarray

    @classmethod
    def of(cls, model: ChainModel) -> ChainSearch:
        """Sweep for the best chains."""
        return cls(model, *_sweeps(model, np.maximum))

    def best(self) -> Chain:
        """Return the best chain of all."""
        through = self.down + self.up
        rank, hypothesis, place = np.unravel_index(np.argmax(through), through.shape)
        return self.through(int(place), int(rank), int(hypothesis))

    def best_through(self) -> tuple[np.ndarray, np.ndarray]:
        """Return (n, 26) score of the best chain through each state and its hypothesis."""
        through = self.down + self.up
        return through.max(axis=1).T, through.argmax(axis=1).T

    def through(self, place: int, rank: int, hypothesis: int) -> Chain:
        """Return the best chain through one state under one hypothesis."""
        above = list(self._trace_up(place, rank, hypothesis))[::-1]
        below = list(self._trace_down(place, rank, hypothesis))
        score = float((self.down + self.up)[rank, hypothesis, place])
        return Chain((*above, *below), score, hypothesis)

    def _trace_up(self, place: int, rank: int, hypothesis: int) -> Iterator[Step]:
        """Yield the steps from a state to the top of its best chain."""
        model = self.model
        while True:
            best, origin = model.start[hypothesis, place, rank], None
            pairs = np.flatnonzero(model.lower_of == place)
            for move, gaps in zip(model.moves, model.gaps, strict=True):
                if move.lower != rank or not len(pairs):
                    continue
                scores = self.down[move.upper, hypothesis, model.upper_of[pairs]]
                scores = scores + gaps[hypothesis, pairs]
                k = int(np.argmax(scores))
                if scores[k] > best:
                    best, origin = scores[k], (move, int(model.upper_of[pairs[k]]))
            yield Step(place, rank, origin[0] if origin else None)
            if origin is None:
                return
            place, rank = origin[1], origin[0].upper

    def _trace_down(self, place: int, rank: int, hypothesis: int) -> Iterator[Step]:
        """Yield the steps below a state to the foot of its best chain."""
        model = self.model
        while True:
            best, target = model.end[hypothesis, place, rank], None
            pairs = np.flatnonzero(model.upper_of == place)
            for move, gaps in zip(model.moves, model.gaps, strict=True):
                if move.upper != rank or not len(pairs):
                    continue
                lower = model.lower_of[pairs]
                scores = self.up[move.lower, hypothesis, lower] + model.node[lower, move.lower]
                scores = scores + gaps[hypothesis, pairs]
                k = int(np.argmax(scores))
                if scores[k] > best:
                    best, target = scores[k], (move, int(lower[k]))
            if target is None:
                return
            place, rank = target[1], target[0].lower
            yield Step(place, rank, target[0])


def name_probabilities(model: ChainModel) -> np.ndarray:
    """Return (n, 26) probabilities that a place is a vertebra and which, over all chains and none."""
    down, up = _sweeps(model, np.logaddexp)
    through = down + up
    ending = down + np.moveaxis(model.end, 2, 0)
    total = np.logaddexp(np.logaddexp.reduce(ending, axis=None), 0.0)
    return np.exp(np.logaddexp.reduce(through, axis=1).T - total)


def _sweeps(model: ChainModel, fold: np.ufunc) -> tuple[np.ndarray, np.ndarray]:
    """Return (26, h, n) scores of all chains down to each state and of all continuations from it."""
    down = np.moveaxis(model.start, 2, 0).copy()
    up = np.moveaxis(model.end, 2, 0).copy()
    to_lower = _Folded.by(model.lower_of, fold)
    to_upper = _Folded.by(model.upper_of, fold)
    moves = list(zip(model.moves, model.gaps, strict=True))
    for rank in range(N_LABELS):
        for move, gaps in moves:
            if move.lower == rank:
                to_lower.into(down[rank], down[move.upper][:, model.upper_of] + gaps)
        down[rank] += model.node[:, rank]
    for rank in reversed(range(N_LABELS)):
        for move, gaps in moves:
            if move.upper == rank:
                ahead = up[move.lower] + model.node[:, move.lower]
                to_upper.into(up[rank], ahead[:, model.lower_of] + gaps)
    return down, up


@dataclass(frozen=True, slots=True)
class _Folded:
    """Folds values of pairs into one of their two places."""

    fold: np.ufunc
    order: np.ndarray
    firsts: np.ndarray
    places: np.ndarray

    @classmethod
    def by(cls, place_of: np.ndarray, fold: np.ufunc) -> _Folded:
        order = np.argsort(place_of, kind="stable")
        places, firsts = np.unique(place_of[order], return_index=True)
        return cls(fold, order, firsts, places)

    def into(self, scores: np.ndarray, values: np.ndarray) -> None:
        """Fold (h, p) values into (h, n) scores, in place."""
        if len(self.places):
            folded = self.fold.reduceat(values[:, self.order], self.firsts, axis=1)
            scores[:, self.places] = self.fold(scores[:, self.places], folded)
