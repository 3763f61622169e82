"""From label heatmaps to named vertebrae, by the decoder that was asked for."""

from __future__ import annotations

from typing import Any

from payerseg.config.schema import VertebraeLocalizationConfig
from payerseg.domain.grid import Grid
from payerseg.domain.vertebra import Vertebra
from payerseg.domain.volume import Volume
from payerseg.errors import SpineNotFound
from payerseg.postprocess.decision import SpineDecision
from payerseg.postprocess.peaks import REFERENCE_PEAKS, Candidate, heatmap_candidates, peak_rule
from payerseg.postprocess.spine_decoder import decode_spine
from payerseg.postprocess.spine_graph import decode_reference


def find_candidates(
    heatmaps: Volume, target_sigma_mm: float, config: VertebraeLocalizationConfig
) -> list[Candidate]:
    """Return the heatmaps' peaks.

    Args:
        heatmaps: (z, y, x, channel), float; 26 channels, or 25 without T13.
        target_sigma_mm: sigma of the Gaussians the network was trained towards.
        config: of stage 2.
    """
    if config.decoder == "reference":
        return heatmap_candidates(heatmaps, REFERENCE_PEAKS)
    return heatmap_candidates(heatmaps, peak_rule(config.graph, target_sigma_mm))


def name_vertebrae(
    candidates: list[Candidate], scan: Grid, config: VertebraeLocalizationConfig
) -> SpineDecision:
    """Decide which candidates are which vertebra.

    Args:
        candidates: of `find_candidates`.
        scan: the prepared scan's grid; tells what lies at its upper and lower end.
        config: of stage 2.

    Raises:
        SpineNotFound: nothing among the candidates is a spine.
    """
    if config.decoder == "merged":
        return decode_spine(candidates, config=config.graph, field=scan, border_mm=config.border_mm)
    # REFERENCE §4.5: from the first slice's centre on, voxels times spacing
    first_z = float(scan.corners_mm(edges=False)[:, 2].min())
    ends = (first_z, first_z + scan.extent_mm[2])
    decision = decode_reference(candidates, z_range_mm=ends)
    if not decision.landmarks:
        msg = f"{len(candidates)} candidate places form no spine; expected at least one vertebra"
        raise SpineNotFound(msg)
    return decision


def candidates_record(candidates: list[Candidate]) -> list[dict[str, Any]]:
    """Return candidates as plain JSON values, strongest first within each label."""
    return [
        {
            "label": Vertebra.from_channel(candidate.channel).name,
            "position_mm": [round(v, 2) for v in candidate.position_mm],
            "value": round(candidate.value, 4),
        }
        for candidate in candidates
    ]


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
