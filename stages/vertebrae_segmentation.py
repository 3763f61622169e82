"""Stage 3 — segment each vertebra.

Reads the prepared CT and the (perhaps edited) landmarks, predicts one mask per vertebra in a crop around
its landmark, or all vertebrae at once in patches over the spine, as the weights' card says, and writes
the merged labels on the input file's own grid and one mask per vertebra.
"""

from collections.abc import Iterator

from payerseg.config.schema import VertebraeSegmentationConfig
from payerseg.domain.landmarks import Landmarks
from payerseg.domain.volume import Volume
from payerseg.inference.predictor import Predictor
from payerseg.inference.slabs import blend_in_slabs, plan_patches
from payerseg.networks.bundle import ModelBundle
from payerseg.postprocess.label_probabilities import label_probabilities
from payerseg.postprocess.mask_results import (
    mask_rule,
    mask_warnings,
    masks_record,
    single_masks,
    with_landmarks,
)
from payerseg.postprocess.vertebra_masks import VertebraProbability, merge_masks
from payerseg.preprocess.inputs import vertebra_inputs
from payerseg.preprocess.patch_inputs import labels_frame, patch_inputs
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
            case.end_as("no_spine", "landmarks.csv lists no vertebra")
            return
        at_once = self.card.output == "label_probability"
        predict = self._all_at_once if at_once else self._one_by_one
        merged = merge_masks(predict(case, ct, landmarks), ct.grid, mask_rule(self.config))
        case.progress("write")
        case.write(SEGMENTATION, merged.labels)
        if self.config.vertebra_masks != "none":
            case.write(VERTEBRAE, single_masks(merged, self.config.vertebra_masks))
        case.write(MASK_REPORT, masks_record(merged))
        warnings = mask_warnings(merged)
        case.note("needs_review", bool(warnings))
        case.note("review_reasons", warnings)

    def _one_by_one(
        self, case: CaseWork, ct: Volume, landmarks: Landmarks
    ) -> Iterator[VertebraProbability]:
        """Predict each vertebra in a crop of its own."""
        crops = vertebra_inputs(ct, landmarks, self.card.sampling)
        predicted = self.predictor.predict_each(crops, self.config.batch)
        told = case.progress_over(predicted, "segment", len(landmarks))
        return with_landmarks(told, landmarks)

    def _all_at_once(
        self, case: CaseWork, ct: Volume, landmarks: Landmarks
    ) -> Iterator[VertebraProbability]:
        """Predict all classes in patches over the spine; they come apart afterwards."""
        sampling, channels = self.card.sampling, self.card.channels
        region = labels_frame(ct.grid, landmarks, sampling)
        patch_zyx = sampling.size_xyz[::-1]
        frames = plan_patches(self.predictor, region, patch_zyx, self.config.patch_overlap)
        inputs = patch_inputs(ct, frames, landmarks, sampling, len(channels) - 1)
        predicted = self.predictor.predict_each(inputs, self.config.batch)
        told = case.progress_over(predicted, "segment", len(frames))
        return label_probabilities(blend_in_slabs(told, region), region, landmarks, channels)


if __name__ == "__main__":
    raise SystemExit(run_stage(VERTEBRAE_SEGMENTATION, VertebraeSegmentation))
