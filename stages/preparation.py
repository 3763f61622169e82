"""Stage 0 — check the scan and put it in order.

Reads the user's file, or the files of a DICOM series, refuses what is no CT, brings its axes to LPS
without resampling, and writes the prepared CT and what must be remembered of the file.
"""

from pathlib import Path

from payerseg.config.schema import PreparationConfig
from payerseg.dicom.source import require_pydicom
from payerseg.domain.series_reference import SERIES_SUFFIX, SeriesReference
from payerseg.preprocess.preparation import PreparedScan, prepare_raw, prepare_scan
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
        prepared = self._prepare(case.image)
        for note in prepared.record.notes:
            case.note(note.code, note.message)
        review = [note.message for note in prepared.record.notes if note.review]
        if review:
            case.note("needs_review", value=True)
            case.note("review_reasons", review)
        case.progress("write")
        case.write(CT, prepared.ct)
        case.write(SCAN, prepared.record)

    def _prepare(self, image: Path) -> PreparedScan:
        if image.suffix != SERIES_SUFFIX:
            return prepare_scan(image, self.config)
        require_pydicom()
        from payerseg.dicom.series import read_series

        fill_gaps = self.config.uneven_slices == "interpolate"
        raw = read_series(SeriesReference.read(image), fill_gaps=fill_gaps)
        return prepare_raw(raw, image.stem, self.config)


if __name__ == "__main__":
    raise SystemExit(run_stage(PREPARATION, Preparation))
