"""Dice of the masks: given the true points, and end to end.

    python benchmarks/masks.py DATA [--preset verse_pytorch]

DATA is a data set `payerseg train` reads; its `val` scans with masks are measured with the functions of the
stages and the preset's shipped weights. Vertebrae that the scan's upper or lower face cuts are left out:
truths treat them in different ways.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
from naming import Namer

from payerseg.config.installation import default_bundle
from payerseg.config.load import load_config
from payerseg.config.schema import VertebraeSegmentationConfig
from payerseg.datasets.centers import with_centers
from payerseg.datasets.discover import discover, read_case
from payerseg.domain.landmarks import Landmarks
from payerseg.domain.vertebra import Vertebra
from payerseg.domain.volume import Volume
from payerseg.errors import SpineNotFound
from payerseg.evaluation.mask_scores import dice
from payerseg.imaging.files import read_volume
from payerseg.imaging.orient import to_canonical
from payerseg.inference.predictor import Predictor
from payerseg.inference.vertebra_probabilities import vertebra_probabilities
from payerseg.networks.bundle import ModelBundle
from payerseg.postprocess.mask_results import mask_rule
from payerseg.postprocess.vertebra_masks import merge_masks

CUT_SHARE = 0.1
"""A vertebra that shows more than this part of its largest section in the first or last slice is cut."""


class Segmenter:
    """Stage 3 without files."""

    def __init__(self, config: VertebraeSegmentationConfig, weights: Path) -> None:
        self.config = config
        bundle = ModelBundle.open(weights, "vertebrae_segmentation")
        self.card = bundle.card
        self.predictor = Predictor(bundle, self.config.precision)

    @classmethod
    def shipped(cls, preset: str = "default") -> Segmenter:
        """Return a segmenter with a preset's settings and shipped weights."""
        config = load_config(preset)
        weights = default_bundle("vertebrae_segmentation", config.driver.family)
        return cls(config.vertebrae_segmentation, weights)

    def labels(self, ct: Volume, landmarks: Landmarks) -> Volume:
        """Return the merged label map on the scan's grid."""
        if not landmarks:
            return ct.with_array(np.zeros(ct.grid.shape, np.uint8))
        found = vertebra_probabilities(self.predictor, self.card, self.config, ct, landmarks)
        return merge_masks(found, ct.grid, mask_rule(self.config, self.card)).labels


def dice_by_level(found: Volume, truth: Volume, wanted: Landmarks) -> dict[Vertebra, float]:
    """Return Dice of the wanted vertebrae that the scan's upper and lower face leave whole."""
    out = {}
    for vertebra in wanted:
        mask = truth.array == vertebra.verse_label
        areas = mask.sum(axis=(1, 2))
        if mask.any() and max(areas[0], areas[-1]) <= CUT_SHARE * areas.max():
            out[vertebra] = dice(found.array == vertebra.verse_label, mask)
    return out


def line(title: str, scores: dict[Vertebra, float]) -> str:
    """Return one Markdown row."""
    if not scores:
        return f"| {title} | - | - | no whole vertebra |"
    levels = " ".join(f"{v.name} {d:.2f}" for v, d in scores.items())
    mean, low = np.mean(list(scores.values())), min(scores.values())
    return f"| {title} | {mean:.3f} | {low:.2f} | {levels} |"


@dataclass(frozen=True, slots=True)
class MaskOutcome:
    """Dice of one scan by level, given true points and end to end."""

    name: str
    given: dict[Vertebra, float]
    whole: dict[Vertebra, float]


def mask_outcomes(data: Path, namer: Namer, segmenter: Segmenter) -> Iterator[MaskOutcome]:
    """Yield the outcome of every `val` scan that has masks."""
    for files in discover(data).cases:
        if files.split != "val" or not files.labels:
            continue
        case = read_case(files)
        ct = to_canonical(read_volume(case.image))[0]
        truth = to_canonical(read_volume(files.labels))[0]
        if not case.landmarks:
            case = with_centers(case, truth)
        given = segmenter.labels(ct, case.landmarks)
        whole = segmenter.labels(ct, landmarks_of(ct, namer))
        yield MaskOutcome(
            case.case_id,
            dice_by_level(given, truth, case.landmarks),
            dice_by_level(whole, truth, case.landmarks),
        )


def landmarks_of(ct: Volume, namer: Namer) -> Landmarks:
    """Return the names found in a scan; none where no spine was found."""
    try:
        return namer.decide(ct).landmarks
    except SpineNotFound:
        return Landmarks()


HEADER = "| scan | mean Dice | lowest | by level |\n|---|---|---|---|"


def lines(outcome: MaskOutcome) -> list[str]:
    """Return the Markdown rows of a scan."""
    return [
        line(f"{outcome.name}, true points", outcome.given),
        line(f"{outcome.name}, end to end", outcome.whole),
    ]


@click.command(help=__doc__)
@click.argument("data", type=click.Path(path_type=Path, exists=True))
@click.option("--preset", default="default", help="Settings and family; see payerseg run --help.")
def main(data: Path, preset: str) -> None:
    """Measure and print."""
    click.echo(HEADER)
    namer, segmenter = Namer.shipped(preset=preset), Segmenter.shipped(preset)
    for outcome in mask_outcomes(data, namer, segmenter):
        click.echo("\n".join(lines(outcome)))


if __name__ == "__main__":
    main()
