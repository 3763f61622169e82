"""How candidates become named vertebrae: the settings of the merged decoder.

The decoder adds log odds along a chain of places, so every weight here is in nats (natural log units):
3 nats are odds of 20 to 1.
"""

from __future__ import annotations

from dataclasses import dataclass

from payerseg.config.option import check_options, option


@dataclass(frozen=True, slots=True)
class GraphConfig:
    """The spine graph: which candidates are which vertebra."""

    candidate_sigma_mm: float = option(
        4.0, "smoothing of the heatmaps before maxima are sought, mm", at_least=0, at_most=20
    )
    candidate_threshold: float = option(
        0.08,
        "smallest heat of a candidate, as part of a perfect peak's after the same smoothing",
        at_least=0,
        at_most=1,
    )
    merge_distance_mm: float = option(
        7.5, "candidates of different labels closer than this are one place, mm", at_least=0
    )
    max_places: int = option(96, "only so many of the strongest places are used", at_least=2)
    evidence_temperature: float = option(
        0.5,
        "divides the evidence for each name: above 1 trusts the network less (neighbouring vertebrae are "
        "misnamed together), below 1 more; fitted by benchmarks/calibrate.py",
        at_least=0.1,
        at_most=100,
    )
    evidence_floor: float = option(
        0.015, "heat that every label is given before shares are taken", at_least=1e-6, at_most=1
    )
    neighbour_confusion: float = option(
        0.08, "odds that a network names a vertebra as its neighbour", at_least=1e-6, at_most=1
    )
    common_error: float = option(
        0.01,
        "odds that a network names the whole middle of the spine one level off",
        at_least=1e-9,
        at_most=1,
    )
    presence_weight: float = option(
        2.0, "nats of being a vertebra per doubling (factor e) of heat", at_least=0
    )
    presence_heat: float = option(
        0.25,
        "part of a perfect peak at which a place is as likely a vertebra as not",
        at_least=1e-3,
        at_most=1,
    )
    fit_bonus: float = option(2.5, "nats for a neighbour exactly where it is expected", at_least=0)
    skip_cost: float = option(2.0, "nats for passing over one silent vertebra", at_least=0)
    max_skip: int = option(3, "most silent vertebrae in a row", at_least=0, at_most=8)
    open_end_cost: float = option(
        3.0,
        "nats for a chain that ends although its next vertebra would lie inside the scan",
        at_least=0,
    )
    start_cost: float = option(1.0, "nats against there being a spine at all", at_least=0)
    closest_ratio: float = option(
        0.55, "neighbours nearer than this part of the expected distance exclude each other",
        at_least=0, at_most=1,
    )  # fmt: skip
    place_sd_mm: float = option(1.5, "uncertainty of one place along the spine, mm", at_least=0.1)
    angle_sd_deg: float = option(
        18.0, "spread of the direction to the next vertebra, degrees", at_least=1, at_most=90
    )
    scale_low: float = option(
        0.62, "smallest size of a patient relative to the mean adult", at_least=0.3, at_most=1
    )
    scale_high: float = option(
        1.25, "largest size of a patient relative to the mean adult", at_least=1, at_most=2
    )
    bridge: bool = option(True, "fill silent vertebrae between found ones by interpolation")
    drop_border: bool = option(
        False, "drop vertebrae nearer than border_mm to the scan's upper or lower end"
    )
    min_evidence: float = option(
        0.0,
        "nats that a chain must have over nothing at all, more where bright places remain; else no spine",
    )
    sure_heat: float = option(
        1.1,
        "a chain with a place this bright, as part of a perfect peak, is a spine however short; if the "
        "evidence is less than min_evidence asks for, it is flagged",
        at_least=0,
    )
    review_probability: float = option(
        0.86, "a level less probable than this asks for a review", at_least=0, at_most=1
    )
    n_alternatives: int = option(
        5, "other labellings listed with the result", at_least=0, at_most=50
    )

    def __post_init__(self) -> None:
        check_options(self)
