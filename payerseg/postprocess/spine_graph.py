"""The reference's spine graph, for comparison: shortest path through candidates (REFERENCE §4.2-4.6).

It hardly listens to the heat and pays for every vertebra it can insert; `spine_decoder` is the default.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import networkx as nx
import numpy as np

from payerseg.config.model_card import PRIOR_FILE
from payerseg.domain.landmarks import Landmark, Landmarks, Point
from payerseg.domain.vertebra import N_CHANNELS, Vertebra
from payerseg.errors import BundleError
from payerseg.postprocess.decision import SpineDecision
from payerseg.postprocess.peaks import Candidate

PRIOR_FORMAT = 1
DEFAULT_PRIOR_FILE = Path(__file__).with_name("spine_prior.json")
NO_L5_PROBABILITY = 0.02


@dataclass(frozen=True, slots=True)
class PriorEdge:
    """One vertebra and one that may follow it.

    Attributes:
        upper, lower: the two.
        unit_xyz: direction from the lower to the upper centre, LPS, length 1.
        distance_mm: mean distance of the centres.
        sd_mm: standard deviation of that distance.
        probability: that `lower` follows, given `upper` and that something follows.
        n: how many pairs were measured.
    """

    upper: Vertebra
    lower: Vertebra
    unit_xyz: Point
    distance_mm: float
    sd_mm: float
    probability: float = 1.0
    n: int = 0


@dataclass(frozen=True, slots=True)
class SpinePrior:
    """All edges, head to foot, and how often the last one is left out.

    What is known of spines before looking: which vertebra follows which, how far, in which direction.
    Centres are body centres; C1 is the centre of the dens at the height of C1's anterior arch, about 22 mm
    above C2 (VerSe 2020 puts it 17 mm above, so tables of both kinds must not be mixed).
    """

    edges: tuple[PriorEdge, ...]
    no_l5_probability: float = NO_L5_PROBABILITY
    source: str = ""

    def followers(self, upper: Vertebra) -> tuple[PriorEdge, ...]:
        """Return the edges that leave `upper` downwards."""
        return tuple(edge for edge in self.edges if edge.upper is upper)

    @classmethod
    def default(cls) -> SpinePrior:
        """Return the prior that is shipped (its `source` says what it was measured on)."""
        return cls.read(DEFAULT_PRIOR_FILE)

    @classmethod
    def of_bundle(cls, folder: Path) -> SpinePrior:
        """Return the prior that lies beside weights, or the shipped one where none does.

        Raises:
            BundleError: the file is damaged or of another format.
        """
        path = folder / PRIOR_FILE
        return cls.read(path) if path.is_file() else cls.default()

    @classmethod
    def read(cls, path: Path) -> SpinePrior:
        """Read a prior from JSON.

        Raises:
            BundleError: the file is missing, damaged or of another format.
        """
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content["format"] != PRIOR_FORMAT:
                msg = f"spine prior {path} has format {content['format']}; expected {PRIOR_FORMAT}"
                raise BundleError(msg)
            edges = tuple(_edge_from(item) for item in content["edges"])
            return cls(edges, float(content["no_l5_probability"]), content["source"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            msg = f"spine prior {path} cannot be read ({error}); restore the file or refit it"
            raise BundleError(msg) from error


def _edge_from(item: Mapping) -> PriorEdge:
    unit = tuple(float(v) for v in item["unit_xyz"])
    names = {"upper": Vertebra[item["upper"]], "lower": Vertebra[item["lower"]], "unit_xyz": unit}
    return PriorEdge(**(dict(item) | names))


REFERENCE_TABLE_FILE = Path(__file__).with_name("reference_table.json")
SOURCE, SINK = "s", "t"
T12, T13 = Vertebra.T12.channel, Vertebra.T13.channel
COPY_PAIRS = (
    *((i, i + 1) for i in range(2, 6)),
    *((i, i + 1) for i in range(8, 18)),
    (T13, T12),
    *((i, i + 1) for i in range(20, 24)),
)
"""Channels whose candidates are lent to each other, in this order (C3..C7, T2..T12, T12/T13, L2..L6)."""


@dataclass(frozen=True, slots=True)
class ReferenceGraphRule:
    """Weights of the reference's graph.

    Attributes:
        heat_weight: of a candidate's value against the edges (lambda).
        bias: reward of every vertebra.
        copy_weight: part of its value that a candidate lends to the neighbouring channel.
        too_close_weight: multiplies the deviation along z where two centres are too close.
        top_bottom_mm: landmarks this near the scan's lower or upper end are dropped.
    """

    heat_weight: float = 0.2
    bias: float = 2.0
    copy_weight: float = 0.1
    too_close_weight: float = 3.0
    top_bottom_mm: float = 10.0


ByChannel = list[list[Candidate]]


def decode_reference(
    candidates: list[Candidate],
    prior: SpinePrior | None = None,
    rule: ReferenceGraphRule | None = None,
    z_range_mm: tuple[float, float] = (-np.inf, np.inf),
) -> SpineDecision:
    """Name vertebrae as the reference does, quirks included.

    Args:
        candidates: by channel, strongest first (`REFERENCE_PEAKS`).
        prior: offsets; left out = the table published with the reference (VerSe 2020).
        rule: weights.
        z_range_mm: lower and upper end of the scan for the top/bottom filter.

    Returns:
        Landmarks with the candidates' heat as score; none without candidates.
    """
    prior, rule = prior or reference_table(), rule or ReferenceGraphRule()
    try:
        found, _ = shortest_path(neighbour_copies(candidates, rule), prior, rule)
        found = inside_ends(reshifted(found), z_range_mm, rule.top_bottom_mm)
    except nx.NetworkXException:  # REFERENCE §4.6: then every channel speaks for itself
        found = best_per_channel(candidates)
    marks = (
        Landmark(Vertebra.from_channel(channel), item.position_mm, min(max(item.value, 0.0), 1.0))
        for channel, item in found.items()
    )
    return SpineDecision(Landmarks(marks))


def reference_table() -> SpinePrior:
    """Return the offsets that the reference uses (REFERENCE §4.3, V20)."""
    return SpinePrior.read(REFERENCE_TABLE_FILE)


def neighbour_copies(
    candidates: list[Candidate], rule: ReferenceGraphRule | None = None
) -> ByChannel:
    """Lend candidates to neighbouring channels, in place and in order, so that copies cascade."""
    rule = rule or ReferenceGraphRule()
    channels: ByChannel = [[] for _ in range(N_CHANNELS)]
    for candidate in candidates:
        channels[candidate.channel].append(candidate)
    for first, second in COPY_PAIRS:
        weight = 1.0 if first == T13 else rule.copy_weight
        # T13 is listed after T12 but borrows first
        lenders = ((second, first), (first, second)) if first == T13 else (
            (first, second), (second, first)
        )  # fmt: skip
        for lender, borrower in lenders:
            channels[borrower] += [
                replace(item, channel=borrower, value=item.value * weight)
                for item in channels[lender]
            ]
    return channels


def edge_cost(
    upper: Candidate, lower: Candidate, offset_mm: np.ndarray, rule: ReferenceGraphRule
) -> float:
    """Return the weight of the edge between two candidates.

    Args:
        upper, lower: the two; the heat of the upper one is counted.
        offset_mm: expected (x, y, z) from the lower to the upper centre.
    """
    step = np.subtract(upper.position_mm, lower.position_mm)
    deviation = (offset_mm - step) / np.linalg.norm(offset_mm)
    if deviation[2] > 0:
        deviation[2] *= rule.too_close_weight
    fit = 1 - float(np.sum((2 * deviation) ** 2))
    return -(rule.heat_weight * upper.value + rule.bias + (1 - rule.heat_weight) * fit)


def shortest_path(
    channels: ByChannel, prior: SpinePrior, rule: ReferenceGraphRule | None = None
) -> tuple[dict[int, Candidate], float]:
    """Find the cheapest chain of candidates.

    Returns:
        The candidate per channel and the total weight.

    Raises:
        networkx.NodeNotFound: there is no candidate.
    """
    rule = rule or ReferenceGraphRule()
    graph = nx.DiGraph()
    for channel, items in enumerate(channels):
        for number, item in enumerate(items):
            graph.add_edge(SOURCE, (channel, number), weight=0.0)
            graph.add_edge(
                (channel, number), SINK, weight=-(rule.heat_weight * item.value + rule.bias)
            )
    for edge in prior.edges:
        offset = np.asarray(edge.unit_xyz) * edge.distance_mm
        upper_channel, lower_channel = edge.upper.channel, edge.lower.channel
        for i, upper in enumerate(channels[upper_channel]):
            for j, lower in enumerate(channels[lower_channel]):
                weight = edge_cost(upper, lower, offset, rule)
                graph.add_edge((upper_channel, i), (lower_channel, j), weight=weight)
    path = nx.bellman_ford_path(graph, SOURCE, SINK)
    cost = nx.path_weight(graph, path, "weight")
    return {channel: channels[channel][number] for channel, number in path[1:-1]}, float(cost)


def reshifted(found: dict[int, Candidate]) -> dict[int, Candidate]:
    """Apply the reference's counting rules (REFERENCE §4.4), the loss of C6 included."""
    has = {vertebra.name: vertebra.channel in found for vertebra in Vertebra}
    moved = dict(found)
    if not has["C1"] and has["T1"] and not has["C7"] and has["C6"]:
        moved = {k: v for k, v in moved.items() if k > 6}
        moved |= {k + 1: found[k] for k in range(5) if k in found}
    if not has["T1"] and has["L1"]:
        thoracic = [*range(7, 19)]
        if not has["T12"] and has["T11"]:
            moved = {k: v for k, v in moved.items() if k not in thoracic}
            moved |= {k + 1: found[k] for k in thoracic[:-1] if k in found}
        elif has["T13"]:
            moved = {k: v for k, v in moved.items() if k not in (*thoracic, T13)}
            moved |= {k - 1: found[k] for k in thoracic[1:] if k in found}
            moved[T12] = found[T13]
    return dict(sorted(moved.items()))


def inside_ends(
    found: dict[int, Candidate], z_range_mm: tuple[float, float], margin_mm: float
) -> dict[int, Candidate]:
    """Drop candidates within `margin_mm` of the scan's lower or upper end (REFERENCE §4.5)."""
    low, high = z_range_mm[0] + margin_mm, z_range_mm[1] - margin_mm
    return {k: item for k, item in found.items() if low < item.position_mm[2] < high}


def best_per_channel(candidates: list[Candidate]) -> dict[int, Candidate]:
    """Return the strongest candidate of every channel: the reference's answer without the graph."""
    best: dict[int, Candidate] = {}
    for item in candidates:
        if item.channel not in best or item.value > best[item.channel].value:
            best[item.channel] = item
    return best
