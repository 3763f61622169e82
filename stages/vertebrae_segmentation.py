"""Stage 3 — segment each vertebra.

Reads the prepared CT and the (perhaps edited) landmarks, predicts one mask per vertebra in a crop around
its landmark, or all vertebrae at once in patches over the spine, as the weights' card says, and writes
the merged labels on the input file's own grid and one mask per vertebra.
"""

from payerseg.config.schema import VertebraeSegmentationConfig
from payerseg.inference.predictor import Predictor
from payerseg.inference.vertebra_probabilities import vertebra_probabilities
from payerseg.networks.bundle import ModelBundle
from payerseg.postprocess.mask_results import (
    mask_rule,
    mask_warnings,
    masks_record,
    single_masks,
)
from payerseg.postprocess.vertebra_masks import merge_masks
from payerseg.results.artifacts import CT, LANDMARKS_CSV, MASK_REPORT, SEGMENTATION, VERTEBRAE
from payerseg.stagekit.case_work import CaseWork
from payerseg.stagekit.catalog import VERTEBRAE_SEGMENTATION
from payerseg.stagekit.worker import StageSetup, run_stage


class VertebraeSegmentation:
    """Built once per process, called once per case."""

    def __init__(self, setup: StageSetup[VertebraeSegmentationConfig]) -> None:
        self.config = setup.config
        bundle = ModelBundle.open(setup.weights, stage=VERTEBRAE_SEGMENTATION.name)
        self.card = bundle.card
        self.predictor = Predictor(bundle, self.config.precision, self.config.memory_mb)

    def __call__(self, case: CaseWork) -> None:
        """Segment the vertebrae of one scan."""
        ct, landmarks = case.read(CT), case.read(LANDMARKS_CSV)
        if not landmarks:
            reason = "landmarks.csv lists no vertebra: is that what the person meant?"
            case.end_as("no_spine", reason)
            case.note("needs_review", value=True)
            case.note("review_reasons", [reason])
            return
        found = vertebra_probabilities(
            self.predictor, self.card, self.config, ct, landmarks,
            track_progress=lambda predicted, total: case.progress_over(predicted, "segment", total),
        )  # fmt: skip
        merged = merge_masks(found, ct.grid, mask_rule(self.config, self.card))
        case.progress("write")
        case.write(SEGMENTATION, merged.labels)
        if self.config.vertebra_masks != "none":
            case.write(VERTEBRAE, single_masks(merged.labels, self.config.vertebra_masks))
        case.write(MASK_REPORT, masks_record(merged))
        warnings = mask_warnings(merged)
        case.note("needs_review", bool(warnings))
        case.note("review_reasons", warnings)


if __name__ == "__main__":
    raise SystemExit(run_stage(VERTEBRAE_SEGMENTATION, VertebraeSegmentation))
