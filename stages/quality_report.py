"""Stage 4 — look at the result as a careful colleague would.

Reads everything the earlier stages found, checks it, and writes findings, measurements, a picture and one
page with a viewer that opens by double-click.
"""

from payerseg.config.schema import QualityReportConfig
from payerseg.measure.case import measure_case, measurements_csv
from payerseg.report.case_facts import CaseFacts
from payerseg.report.case_report import build_report
from payerseg.results.artifacts import (
    CT,
    FINDINGS,
    LANDMARKS_CSV,
    LANDMARKS_JSON,
    MASK_REPORT,
    MEASUREMENTS,
    REPORT,
    SCAN,
    SEGMENTATION,
    THUMBNAIL,
)
from payerseg.stagekit.case_work import CaseWork
from payerseg.stagekit.catalog import QUALITY_REPORT
from payerseg.stagekit.worker import StageSetup, run_stage


class QualityReport:
    """Built once per process, called once per case."""

    def __init__(self, setup: StageSetup[QualityReportConfig]) -> None:
        self.config = setup.config

    def __call__(self, case: CaseWork) -> None:
        """Check one case and write its page."""
        case.progress("measure")
        ct, labels, landmarks = case.read(CT), case.read(SEGMENTATION), case.read(LANDMARKS_CSV)
        scan = case.read(SCAN)
        doubted = any(note.code == "doubtful_values" for note in scan.notes)
        measured = measure_case(None if doubted else ct, labels, landmarks, scan.hu_window)
        facts = CaseFacts(
            case_id=case.case_id,
            scan=scan,
            ct=ct,
            labels=labels,
            landmarks=landmarks,
            decision=case.read(LANDMARKS_JSON),
            mask_report=case.read(MASK_REPORT),
            measured=measured,
            manifests=case.earlier_manifests(),
        )
        case.progress("check")
        report = build_report(facts, self.config)
        case.write(FINDINGS, report.findings)
        case.write(THUMBNAIL, report.thumbnail)
        case.write(REPORT, report.page)
        if self.config.measurements:
            case.write(MEASUREMENTS, measurements_csv(measured))
        case.note("needs_review", report.needs_review)
        case.note("review_reasons", list(report.reasons))


if __name__ == "__main__":
    raise SystemExit(run_stage(QUALITY_REPORT, QualityReport))
