"""Stage 2 — find and name the vertebrae.

Reads the prepared CT and the spine box, predicts one heatmap per vertebra, asks the level network about
every place found, and writes all of that, the named landmarks with how sure they are, and a picture.
`landmarks.csv` may be edited by hand afterwards.
"""

from functools import partial

from payerseg.config.schema import VertebraeLocalizationConfig
from payerseg.errors import SpineNotFound
from payerseg.inference.level_reader import LevelReader
from payerseg.inference.predictor import Predictor, Tiling
from payerseg.networks.bundle import ModelBundle
from payerseg.postprocess.naming import (
    decision_record,
    find_places,
    found_record,
    name_vertebrae,
)
from payerseg.postprocess.spine_box import why_unnamed
from payerseg.postprocess.spine_graph import SpinePrior
from payerseg.preprocess.inputs import vertebrae_input
from payerseg.report.figures import spine_projection
from payerseg.results.artifacts import (
    CANDIDATES,
    CT,
    HEATMAPS,
    LANDMARKS_CSV,
    LANDMARKS_JSON,
    PROJECTION,
    SPINE_BOX,
)
from payerseg.stagekit.case_work import CaseWork
from payerseg.stagekit.catalog import VERTEBRAE_LOCALIZATION
from payerseg.stagekit.worker import StageSetup, run_stage


class VertebraeLocalization:
    """Built once per process, called once per case."""

    def __init__(self, setup: StageSetup[VertebraeLocalizationConfig]) -> None:
        self.config = setup.config
        bundle = ModelBundle.open(setup.weights, stage=VERTEBRAE_LOCALIZATION.name)
        self.card, self.prior = bundle.card, SpinePrior.of_bundle(bundle.path)
        tiling = Tiling(self.config.tile_merge, self.config.tile_overlap, self.config.tile_size_zyx)
        self.predictor = Predictor(bundle, self.config.precision, self.config.memory_mb, tiling)
        self.levels = LevelReader.beside(bundle, self.config.precision)

    def __call__(self, case: CaseWork) -> None:
        """Name the vertebrae of one scan."""
        ct, box = case.read(CT), case.read(SPINE_BOX)
        case.progress("predict")
        seen = vertebrae_input(ct, box, self.card.sampling)
        heatmaps = self.predictor.predict_both_ways(seen, self.config.mirror_below_mm)
        case.write(HEATMAPS, heatmaps)
        case.progress("name")
        ask = None if self.levels is None else partial(self.levels.read, ct)
        found = find_places(heatmaps, self.card, self.config, ct.grid, ask)
        case.write(CANDIDATES, found_record(found))
        try:
            decision = name_vertebrae(found, ct.grid, self.config, self.card.decoder, self.prior)
        except SpineNotFound:  # though stage 1 saw one
            case.note("needs_review", value=True)
            case.note("review_reasons", list(why_unnamed(ct, box)))
            raise
        case.write(LANDMARKS_JSON, decision_record(decision))
        case.write(LANDMARKS_CSV, decision.landmarks)
        case.write(PROJECTION, spine_projection(ct, box, decision.landmarks))
        case.note("vertebrae", [vertebra.name for vertebra in decision.landmarks])
        case.note("needs_review", decision.needs_review)
        case.note("review_reasons", list(decision.reasons))


if __name__ == "__main__":
    raise SystemExit(run_stage(VERTEBRAE_LOCALIZATION, VertebraeLocalization))
