"""Dice of the masks: given the true points, and end to end.

    python benchmarks/masks.py DATA [--pictures DIR]

DATA is a data set `payerseg train` reads; its `val` scans with masks are measured with the functions of the
stages and the shipped weights. Vertebrae that the scan's upper or lower face cuts are left out: truths
treat them in different ways.
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
from naming import Namer

from payerseg.config.installation import default_bundle
from payerseg.config.load import load_config
from payerseg.datasets.centers import with_centers
from payerseg.datasets.discover import discover, read_case
from payerseg.domain.landmarks import Landmarks
from payerseg.domain.vertebra import Vertebra
from payerseg.domain.volume import Volume
from payerseg.evaluation.mask_scores import dice
from payerseg.imaging.files import read_volume
from payerseg.imaging.orient import to_canonical
from payerseg.imaging.png import write_png
from payerseg.inference.predictor import Predictor
from payerseg.networks.bundle import ModelBundle
from payerseg.postprocess.mask_results import mask_rule, with_landmarks
from payerseg.postprocess.vertebra_masks import merge_masks
from payerseg.preprocess.inputs import vertebra_inputs
from payerseg.report.figures import curved_views, thumbnail


class Segmenter:
    """Stage 3 without files."""

    def __init__(self, weights: Path) -> None:
        self.config = load_config().vertebrae_segmentation
        bundle = ModelBundle.open(weights, "vertebrae_segmentation")
        self.sampling = bundle.card.sampling
        self.predictor = Predictor(bundle, self.config.precision)

    def labels(self, ct: Volume, landmarks: Landmarks) -> Volume:
        """Return the merged label map on the scan's grid."""
        crops = vertebra_inputs(ct, landmarks, self.sampling)
        predicted = self.predictor.predict_each(crops, self.config.batch)
        found = with_landmarks(predicted, landmarks)
        return merge_masks(found, ct.grid, mask_rule(self.config)).labels


def dice_by_level(found: Volume, truth: Volume, wanted: Landmarks) -> dict[Vertebra, float]:
    """Return Dice of the wanted vertebrae that the scan's upper and lower face leave whole."""
    out = {}
    for vertebra in wanted:
        mask = truth.array == vertebra.verse_label
        if mask.any() and not mask[0].any() and not mask[-1].any():
            out[vertebra] = dice(found.array == vertebra.verse_label, mask)
    return out


def line(title: str, scores: dict[Vertebra, float]) -> str:
    """Return one Markdown row."""
    if not scores:
        return f"| {title} | - | - | no whole vertebra |"
    levels = " ".join(f"{v.name} {d:.2f}" for v, d in scores.items())
    mean, low = np.mean(list(scores.values())), min(scores.values())
    return f"| {title} | {mean:.3f} | {low:.2f} | {levels} |"


@click.command(help=__doc__)
@click.argument("data", type=click.Path(path_type=Path, exists=True))
@click.option("--pictures", type=click.Path(path_type=Path), help="Folder for overlays.")
def main(data: Path, pictures: Path | None) -> None:
    """Measure and print."""
    stages = ("spine_localization", "vertebrae_localization")
    namer = Namer(load_config(), {stage: default_bundle(stage) for stage in stages})
    segmenter = Segmenter(default_bundle("vertebrae_segmentation"))
    click.echo("| scan | mean Dice | lowest | by level |\n|---|---|---|---|")
    for files in discover(data).cases:
        if files.split != "val" or not files.labels:
            continue
        case = read_case(files)
        ct = to_canonical(read_volume(case.image))[0]
        truth = to_canonical(read_volume(files.labels))[0]
        if not case.landmarks:
            case = with_centers(case, truth)
        given = segmenter.labels(ct, case.landmarks)
        title = f"{case.case_id}, true points"
        click.echo(line(title, dice_by_level(given, truth, case.landmarks)))
        decision = namer.decide(ct)
        whole = segmenter.labels(ct, decision.landmarks)
        title = f"{case.case_id}, end to end"
        click.echo(line(title, dice_by_level(whole, truth, case.landmarks)))
        if pictures:
            pictures.mkdir(parents=True, exist_ok=True)
            views = curved_views(ct, whole, decision.landmarks)
            write_png(thumbnail(views), pictures / f"{case.case_id}.png")


if __name__ == "__main__":
    main()
