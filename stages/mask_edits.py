"""Stage 3, edits — take over what a person corrected in the masks.

Reads the merged map and the single masks, of which one or both were edited, checks them, brings the
other in step, and writes down what is a person's work. No network is asked; nothing is lost if it fails.
"""

from payerseg.config.schema import VertebraeSegmentationConfig
from payerseg.errors import ArtifactError
from payerseg.imaging.files import lies_like
from payerseg.postprocess.mask_results import (
    differing,
    edited_record,
    on_grid,
    single_masks,
    with_masks,
)
from payerseg.results.artifacts import MASK_REPORT, SCAN, SEGMENTATION, VERTEBRAE
from payerseg.results.formats import check_labels
from payerseg.stagekit.case_run import take_over_edits
from payerseg.stagekit.case_work import CaseWork
from payerseg.stagekit.catalog import MASK_EDITS
from payerseg.stagekit.worker import StageSetup, run_stage


class MaskEdits:
    """Built once per process, called once per case."""

    def __init__(self, setup: StageSetup[VertebraeSegmentationConfig]) -> None:
        self.config = setup.config

    def __call__(self, case: CaseWork) -> None:
        """Take over the edits of one case."""
        scan, path = case.read(SCAN), case.folder.path(SEGMENTATION)
        labels = on_grid(case.read(SEGMENTATION), scan.ct_grid)
        masks = case.read(VERTEBRAE) if case.has(VERTEBRAE) else {}
        changed = differing(labels, masks)
        if changed and SEGMENTATION in case.edited and VERTEBRAE in case.edited:
            names = ", ".join(vertebra.name for vertebra in changed)
            msg = (
                f"{path.name} and the single masks were both edited and differ in {names}; keep one"
            )
            raise ArtifactError(msg)
        joined = with_masks(labels, masks, changed) if VERTEBRAE in case.edited else labels
        check_labels(joined.array, path.name)
        if joined is not labels or not lies_like(path, scan.source):
            case.write(SEGMENTATION, joined)
        if self.config.vertebra_masks != "none":
            case.write(VERTEBRAE, single_masks(joined, self.config.vertebra_masks))
        record = edited_record(case.read(MASK_REPORT), joined, frozenset(changed))
        case.write(MASK_REPORT, record)
        problems = [f"{name}: {p}" for name, entry in record.items() for p in entry["problems"]]
        case.note("needs_review", bool(problems))
        case.note("review_reasons", problems)


if __name__ == "__main__":
    raise SystemExit(run_stage(MASK_EDITS, MaskEdits, do_case=take_over_edits))
