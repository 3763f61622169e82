"""Stage 0 — check the scan and put it in order.

Reads the user's file, refuses what is no CT, brings its axes to LPS without resampling, and writes the
prepared CT and what must be remembered of the file.
"""

from payerseg.config.schema import PreparationConfig
from payerseg.preprocess.preparation import prepare_scan
from payerseg.results.artifacts import CT, SCAN
from payerseg.stagekit.case_work import CaseWork
from payerseg.stagekit.catalog import PREPARATION
from payerseg.stagekit.worker import StageSetup, run_stage


class Preparation:
    """Built once per process, called once per case."""

    def __init__(self, setup: StageSetup[PreparationConfig]) -> None:
        self.config = setup.config

    def __call__(self, case: CaseWork) -> None:
        """Prepare one scan."""
        case.progress("read")
        prepared = prepare_scan(case.image, self.config)
        for note in prepared.record.notes:
            case.note(note.code, note.message)
        case.progress("write")
        case.write(CT, prepared.ct)
        case.write(SCAN, prepared.record)


if __name__ == "__main__":
    raise SystemExit(run_stage(PREPARATION, Preparation))
