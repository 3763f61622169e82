"""From label heatmaps to named vertebrae, by the decoder that was asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from payerseg.config.graph import DecoderSpec
from payerseg.config.model_card import ModelCard
from payerseg.config.schema import VertebraeLocalizationConfig
from payerseg.domain.grid import Grid
from payerseg.domain.vertebra import N_CHANNELS, Vertebra
from payerseg.domain.volume import Volume
from payerseg.errors import SpineNotFound
from payerseg.postprocess.decision import SpineDecision
from payerseg.postprocess.level_evidence import LevelEvidence
from payerseg.postprocess.peaks import REFERENCE_PEAKS, Candidate, heatmap_candidates, peak_rule
from payerseg.postprocess.places import Places
from payerseg.postprocess.spine_decoder import Decoder, decode_places, places_in
from payerseg.postprocess.spine_graph import SpinePrior, decode_reference


def find_candidates(
    heatmaps: Volume, target_sigma_mm: float, config: VertebraeLocalizationConfig, spec: DecoderSpec
) -> list[Candidate]:
    """Return the heatmaps' peaks.

    Args:
        heatmaps: (z, y, x, channel), float; 26 channels, or 25 without T13.
        target_sigma_mm: sigma of the Gaussians the network was trained towards.
        config: of stage 2.
        spec: how maxima are sought by the merged decoder.
    """
    if config.decoder == "reference":
        return heatmap_candidates(heatmaps, REFERENCE_PEAKS)
    return heatmap_candidates(heatmaps, peak_rule(spec, target_sigma_mm))


@dataclass(frozen=True, slots=True)
class Found:
    """What both networks of stage 2 found in a scan; a decoder needs no more.

    Attributes:
        candidates: of `find_candidates`.
        places: what they mean.
        answers: (n, `domain.levels.N_OUTPUTS`) logits of the level network at the places; None = the
            weights have no level network, or the decoder does not ask it.
    """

    candidates: list[Candidate]
    places: Places
    answers: np.ndarray | None = None


AskLevels = Callable[[np.ndarray], np.ndarray]
"""(n, 3) LPS mm to (n, `domain.levels.N_OUTPUTS`) logits."""


def find_places(
    heatmaps: Volume,
    card: ModelCard,
    config: VertebraeLocalizationConfig,
    scan: Grid,
    ask: AskLevels | None = None,
) -> Found:
    """Return what the heatmaps show, and what the level network says of it.

    Args:
        heatmaps, config: as for `find_candidates`.
        card: of the network that made them.
        scan: the prepared scan's grid.
        ask: the level network.
    """
    candidates = find_candidates(heatmaps, card.sampling.sigma_mm, config, card.decoder)
    places = places_in(candidates, card.decoder, scan)
    if ask is None or config.decoder == "reference":
        return Found(candidates, places)
    return Found(candidates, places, ask(places.positions_mm))


def name_vertebrae(
    found: Found,
    scan: Grid,
    config: VertebraeLocalizationConfig,
    spec: DecoderSpec,
    prior: SpinePrior | None = None,
) -> SpineDecision:
    """Decide which places are which vertebra.

    Args:
        found: of `find_places`.
        scan: the prepared scan's grid; tells what lies at its ends and sides.
        config: of stage 2.
        spec: from the card of the weights.
        prior: of the weights; None = the shipped one.

    Raises:
        SpineNotFound: nothing among the candidates is a spine.
    """
    if config.decoder == "merged":
        places, answers = found.places, found.answers
        evidence = (
            None
            if answers is None
            else LevelEvidence.of_logits(answers, places.positions_mm, field=scan)
        )
        decoder = Decoder(spec, config.graph, prior or SpinePrior.default())
        return decode_places(places, decoder, scan, config.border_mm, evidence)
    # REFERENCE §4.5: from the first slice's centre on, voxels times spacing
    first_z = float(scan.corners_mm(edges=False)[:, 2].min())
    ends = (first_z, first_z + scan.extent_mm[2])
    decision = decode_reference(found.candidates, z_range_mm=ends)
    if not decision.landmarks:
        msg = f"{len(found.candidates)} candidate places form no spine; expected at least one vertebra"
        raise SpineNotFound(msg)
    return decision


def found_record(found: Found) -> dict[str, Any]:
    """Return all that a decoder was given as plain JSON values, so that it can be run again."""
    channels = [Vertebra.from_channel(channel).name for channel in range(N_CHANNELS)]
    places = [
        {"position_mm": np.round(point, 2).tolist(), "heat": np.round(heat, 4).tolist()}
        for point, heat in zip(found.places.positions_mm, found.places.heat, strict=True)
    ]
    if found.answers is not None:
        for place, answer in zip(places, found.answers, strict=True):
            place["answers"] = np.round(answer.astype(float), 3).tolist()
    candidates = [
        {
            "label": Vertebra.from_channel(candidate.channel).name,
            "position_mm": [round(v, 2) for v in candidate.position_mm],
            "value": round(candidate.value, 4),
        }
        for candidate in found.candidates
    ]
    return {"channels": channels, "candidates": candidates, "places": places}


def found_from_record(record: Mapping[str, Any]) -> Found:
    """Return what `found_record` kept; candidates without the heat of other channels.

    Raises:
        KeyError, ValueError, TypeError: another record.
    """
    candidates = [
        Candidate(Vertebra[row["label"]].channel, tuple(row["position_mm"]), float(row["value"]))
        for row in record["candidates"]
    ]
    rows = record["places"]
    positions = np.array([row["position_mm"] for row in rows], float).reshape(-1, 3)
    heat = np.array([row["heat"] for row in rows], float).reshape(-1, N_CHANNELS)
    asked = bool(rows) and "answers" in rows[0]
    answers = np.array([row["answers"] for row in rows], float) if asked else None
    return Found(candidates, Places(positions, heat), answers)


def decision_record(decision: SpineDecision) -> dict[str, Any]:
    """Return a decision with its landmarks as plain JSON values."""
    landmarks = {
        vertebra.name: {
            "label": vertebra.verse_label,
            "position_mm": [round(v, 3) for v in mark.position_mm],
            "score": round(mark.score, 4),
            "flags": list(mark.flags),
        }
        for vertebra, mark in decision.landmarks.items()
    }
    return {
        "space": "LPS mm of the input file",
        "landmarks": landmarks,
        **rounded(decision.summary()),
    }


def rounded(value: Any) -> Any:
    """Round all numbers in plain values to six digits.

    The last bits of another processor or linear algebra library then change no byte, and no later
    stage becomes stale by them.
    """
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(item) for item in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value
