"""Stage 1 — find the spine.

Reads the prepared CT, predicts a coarse spine heatmap, and writes the heatmap and the box around the
spine. A scan without a spine ends here, as `no_spine`.
"""

from payerseg.config.schema import SpineLocalizationConfig
from payerseg.inference.predictor import Predictor
from payerseg.networks.bundle import ModelBundle
from payerseg.postprocess.spine_box import box_rule, find_spine_box
from payerseg.preprocess.inputs import spine_input
from payerseg.report.figures import spine_projection
from payerseg.results.artifacts import CT, SPINE_BOX, SPINE_HEATMAP, STAGE1_PROJECTION
from payerseg.stagekit.case_work import CaseWork
from payerseg.stagekit.catalog import SPINE_LOCALIZATION
from payerseg.stagekit.worker import StageSetup, run_stage


class SpineLocalization:
    """Built once per process, called once per case."""

    def __init__(self, setup: StageSetup[SpineLocalizationConfig]) -> None:
        self.config = setup.config
        bundle = ModelBundle.open(setup.weights, stage=SPINE_LOCALIZATION.name)
        self.sampling = bundle.card.sampling
        self.predictor = Predictor(bundle, self.config.precision, self.config.memory_mb)

    def __call__(self, case: CaseWork) -> None:
        """Find the spine in one scan."""
        ct = case.read(CT)
        case.progress("predict")
        heatmap = self.predictor.predict(spine_input(ct, self.sampling))
        case.note("heatmap_peak", round(float(heatmap.array.max()), 4))
        case.write(SPINE_HEATMAP, heatmap)
        box = find_spine_box(heatmap, rule=box_rule(self.config))
        case.write(SPINE_BOX, box)
        case.write(STAGE1_PROJECTION, spine_projection(ct, box))


if __name__ == "__main__":
    raise SystemExit(run_stage(SPINE_LOCALIZATION, SpineLocalization))
