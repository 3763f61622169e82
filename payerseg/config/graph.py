"""How candidates become named vertebrae, by the merged decoder.

`GraphConfig` holds what a person may want to choose. What depends on the networks was fitted to them and
stands on the card of their weights: `DecoderSpec`.
"""

from __future__ import annotations

from dataclasses import dataclass

from payerseg.config.option import check_options, option


@dataclass(frozen=True, slots=True)
class GraphConfig:
    """The spine graph: which candidates are which vertebra."""

    scale_low: float = option(
        0.5, "smallest size of a patient relative to the mean adult", at_least=0.3, at_most=1
    )
    scale_high: float = option(
        1.25, "largest size of a patient relative to the mean adult", at_least=1, at_most=2
    )
    bridge: bool = option(True, "fill silent vertebrae between found ones by interpolation")
    drop_border: bool = option(
        False, "drop vertebrae nearer than border_mm to the scan's upper or lower end"
    )
    min_evidence: float | None = option(
        None,
        "nats that a chain must have over nothing at all, more where bright places remain, to be a spine; "
        "left out = as fitted to the weights",
    )
    n_alternatives: int = option(
        5, "other labellings listed with the result", at_least=0, at_most=50
    )

    def __post_init__(self) -> None:
        check_options(self)


@dataclass(frozen=True, slots=True)
class DecoderSpec:
    """What the merged decoder must know of the networks whose answers it weighs.

    It adds log odds along a chain of places, so weights are in nats (natural log units): 3 nats are odds
    of 20 to 1. The defaults suit a network of which nothing is known; `benchmarks/calibrate.py` fits them.

    Attributes:
        fitted_on: what the values were fitted on; "" = they are the neutral ones.
        candidate_sigma_mm: smoothing of the heatmaps before maxima are sought.
        candidate_threshold: smallest heat of a candidate, as part of a perfect peak's.
        merge_distance_mm: candidates of different labels closer than this are one place.
        max_places: only so many of the strongest places are used.
        evidence_temperature: divides the heat's evidence for each name; below 1 trusts it more.
        evidence_floor: heat that every label is given before shares are taken.
        neighbour_confusion: odds that the heat names a vertebra as its neighbour.
        common_error: odds that the heat names the whole middle of the spine one level off.
        level_observations: how many independent observations all levels of the level network count as.
        rib_weight: of the ribs, vertebra by vertebra.
        anchor_weight: of the dens, the ring of C1 and the sacrum.
        sacrum_weight: of what follows below.
        vertebra_weight: of being a vertebra at all, by the level network.
        presence_weight: nats of being a vertebra per factor e of heat.
        presence_heat: part of a perfect peak at which a place is as likely a vertebra as not.
        fit_bonus: nats for a neighbour exactly where it is expected.
        skip_cost: nats for passing over one silent vertebra.
        max_skip: most silent vertebrae in a row.
        open_end_cost: nats for a chain that ends although its next vertebra would lie inside the scan.
        start_cost: nats against there being a spine at all.
        closest_ratio: neighbours nearer than this part of the expected distance exclude each other.
        place_sd_mm: uncertainty of one place along the spine.
        angle_sd_deg: spread of the direction to the next vertebra.
        min_evidence: nats that a chain must have over nothing at all; else there is no spine.
        sure_heat: a chain with a place this bright is a spine however short.
        set_mass: labellings are listed until they hold this much of the probability; more than one asks
            for a review.
    """

    fitted_on: str = ""
    candidate_sigma_mm: float = 4.0
    candidate_threshold: float = 0.08
    merge_distance_mm: float = 7.5
    max_places: int = 96
    evidence_temperature: float = 1.0
    evidence_floor: float = 0.015
    neighbour_confusion: float = 0.08
    common_error: float = 0.05
    level_observations: float = 1.0
    rib_weight: float = 1.0
    anchor_weight: float = 1.0
    sacrum_weight: float = 1.0
    vertebra_weight: float = 0.5
    presence_weight: float = 2.0
    presence_heat: float = 0.25
    fit_bonus: float = 2.5
    skip_cost: float = 2.0
    max_skip: int = 3
    open_end_cost: float = 3.0
    start_cost: float = 1.0
    closest_ratio: float = 0.55
    place_sd_mm: float = 1.5
    angle_sd_deg: float = 18.0
    min_evidence: float = 0.0
    sure_heat: float = 1.1
    set_mass: float = 0.95
