"""Training — make the weights of one network; not a part of the pipeline.

Reads a packed data set (no image library is needed), trains with checkpoints that survive a kill, and
writes history, best weights and the record of the training. The work item is a network, not a scan.
"""

from payerseg import records
from payerseg.config.training import BUNDLES_FOLDER, TrainingConfig, bundle_place
from payerseg.results.artifacts import TRAINING_RECORD
from payerseg.stagekit.case_work import CaseWork
from payerseg.stagekit.catalog import NETWORK_TRAINING
from payerseg.stagekit.worker import StageSetup, run_stage
from payerseg.training.export import export_bundle
from payerseg.training.session import train_network


class NetworkTraining:
    """Built once per process, called once per network."""

    def __init__(self, setup: StageSetup[TrainingConfig]) -> None:
        self.config = setup.config

    def __call__(self, case: CaseWork) -> None:
        """Train, or go on training, the network whose folder this is."""

        def tell(step: int, total: int, figures: dict[str, float]) -> None:
            case.progress("iteration", step, total)
            case.note("figures", {"step": step, **figures})

        folder = case.folder.root
        record = train_network(self.config, folder, tell)
        export_bundle(folder, folder.parent / BUNDLES_FOLDER / bundle_place(case.case_id))
        with case.path_for(TRAINING_RECORD) as path:
            path.write_text(records.to_json(record, sort_keys=False), encoding="utf-8")


if __name__ == "__main__":
    raise SystemExit(run_stage(NETWORK_TRAINING, NetworkTraining))
