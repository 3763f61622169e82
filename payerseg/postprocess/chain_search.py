"""The best chain, how probable each name is, and the best other chains: exact, by two sweeps.

Labels only grow head to foot, so the chains form an acyclic graph; one sweep down and one up give the
best (max) or the summed (log-sum-exp) score of all chains through every state.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from payerseg.config.graph import DecoderSpec, GraphConfig
from payerseg.domain.grid import Grid
from payerseg.postprocess.chain_model import (
    N_LABELS,
    ChainModel,
    Hypotheses,
    Move,
    build_chain_model,
)
from payerseg.postprocess.level_evidence import LevelEvidence
from payerseg.postprocess.places import Places
from payerseg.postprocess.spine_graph import SpinePrior

NEGLIGIBLE_NATS = 10.0
"""A hypothesis this far behind the best one is not followed."""


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
            for item in model.moves_to[rank]:
                pairs = np.flatnonzero(item.lower_of == place)
                if not len(pairs):
                    continue
                upper = item.upper_of[pairs]
                scores = (
                    self.down[item.move.upper, hypothesis, upper] + item.scores[hypothesis, pairs]
                )
                k = int(np.argmax(scores))
                if scores[k] > best:
                    best, origin = scores[k], (item.move, int(upper[k]))
            yield Step(place, rank, origin[0] if origin else None)
            if origin is None:
                return
            place, rank = origin[1], origin[0].upper

    def _trace_down(self, place: int, rank: int, hypothesis: int) -> Iterator[Step]:
        """Yield the steps below a state to the foot of its best chain."""
        model = self.model
        while True:
            best, target = model.end[hypothesis, place, rank], None
            for item in model.moves_from[rank]:
                pairs = np.flatnonzero(item.upper_of == place)
                if not len(pairs):
                    continue
                below, lower = item.move.lower, item.lower_of[pairs]
                scores = self.up[below, hypothesis, lower] + model.node[hypothesis, lower, below]
                scores = scores + item.scores[hypothesis, pairs]
                k = int(np.argmax(scores))
                if scores[k] > best:
                    best, target = scores[k], (item.move, int(lower[k]))
            if target is None:
                return
            place, rank = target[1], target[0].lower
            yield Step(place, rank, target[0])


def weigh_chains(
    places: Places,
    prior: SpinePrior,
    spec: DecoderSpec,
    config: GraphConfig,
    field: Grid | None = None,
    evidence: LevelEvidence | None = None,
) -> ChainModel:
    """Build the model of one scan under the hypotheses that matter.

    Sizes are tried first, for a network that names rightly; those far behind the best one cannot
    change any probability and are dropped before the other hypotheses are added.
    """
    sizes = Hypotheses.of_sizes(config)
    scores = best_by_hypothesis(build_chain_model(places, prior, spec, field, sizes, evidence))
    kept = scores >= scores.max() - NEGLIGIBLE_NATS
    shifted = sizes.with_shifts(kept, spec)
    return build_chain_model(places, prior, spec, field, shifted, evidence)


def name_probabilities(model: ChainModel) -> np.ndarray:
    """Return (n, 26) probabilities that a place is a vertebra and which, over all chains and none."""
    down, up = _sweeps(model, np.logaddexp)
    through = down + up
    ending = down + np.moveaxis(model.end, 2, 0)
    total = np.logaddexp(np.logaddexp.reduce(ending, axis=None), 0.0)
    return np.exp(np.logaddexp.reduce(through, axis=1).T - total)


def best_by_hypothesis(model: ChainModel) -> np.ndarray:
    """Return (h,) score of the best chain under each hypothesis."""
    down = _sweep_down(model, np.maximum)
    return (down + np.moveaxis(model.end, 2, 0)).max(axis=(0, 2))


def _sweeps(model: ChainModel, fold: np.ufunc) -> tuple[np.ndarray, np.ndarray]:
    """Return (26, h, n) scores of all chains down to each state and of all continuations from it."""
    return _sweep_down(model, fold), _sweep_up(model, fold)


def _sweep_down(model: ChainModel, fold: np.ufunc) -> np.ndarray:
    down = np.moveaxis(model.start, 2, 0).copy()
    for rank, items in enumerate(model.moves_to):
        for item in items:
            values = down[item.move.upper][:, item.upper_of] + item.scores
            _fold_into(down[rank], values, item.lower_of, fold)
        down[rank] += model.node[:, :, rank]
    return down


def _sweep_up(model: ChainModel, fold: np.ufunc) -> np.ndarray:
    up = np.moveaxis(model.end, 2, 0).copy()
    for rank in reversed(range(N_LABELS)):
        for item in model.moves_from[rank]:
            lower = item.move.lower
            ahead = up[lower] + model.node[:, :, lower]
            order = np.argsort(item.upper_of, kind="stable")
            values = (ahead[:, item.lower_of] + item.scores)[:, order]
            _fold_into(up[rank], values, item.upper_of[order], fold)
    return up


def _fold_into(
    scores: np.ndarray, values: np.ndarray, place_of: np.ndarray, fold: np.ufunc
) -> None:
    """Fold (h, p) values of pairs into the (h, n) scores of their places (sorted), in place."""
    firsts = np.flatnonzero(np.diff(place_of, prepend=-1))
    places = place_of[firsts]
    scores[:, places] = fold(scores[:, places], fold.reduceat(values, firsts, axis=1))
