"""Everything stage 4 makes of a case, from what it read."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from payerseg.config.schema import QualityReportConfig
from payerseg.report.case_facts import SEVERITY_ORDER, CaseFacts
from payerseg.report.checks import check_case
from payerseg.report.figures import curved_views, thumbnail
from payerseg.report.mask_checks import mask_facts
from payerseg.report.page import case_page, needs_review, vertebra_rows
from payerseg.report.viewer_data import ViewerData, viewer_data

FINDINGS_FORMAT = 1


@dataclass(frozen=True, slots=True)
class CaseReport:
    """The results of stage 4.

    Attributes:
        findings: content of findings.json.
        page: HTML.
        thumbnail: (rows, columns, 3) uint8.
        needs_review: whether a person should look before the case is used.
        reasons: why, one sentence each.
    """

    findings: dict[str, Any]
    page: str
    thumbnail: np.ndarray
    needs_review: bool
    reasons: tuple[str, ...]


def build_report(facts: CaseFacts, config: QualityReportConfig) -> CaseReport:
    """Check a case and draw its page.

    Args:
        facts: of a case with at least one landmark.
        config: of stage 4.
    """
    # The scan is reduced and packed in native code, which leaves a processor to the checks.
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="viewer-data") as thread:
        reduced = thread.submit(_viewer_data, facts, config)
        masks = mask_facts(facts.ct, facts.labels, facts.landmarks)
        findings = check_case(facts, masks)
        rows = vertebra_rows(facts, masks, findings)
        views = curved_views(facts.ct, facts.labels, facts.landmarks)
        viewer = reduced.result()
    review = needs_review(facts, findings)
    counts = {str(s): sum(f.severity is s for f in findings) for s in SEVERITY_ORDER}
    record = {
        "format": FINDINGS_FORMAT,
        "case_id": facts.case_id,
        "needs_review": review,
        "counts": counts,
        "findings": [finding.to_dict() for finding in findings],
        "vertebrae": [row.to_dict() for row in rows],
    }
    reasons = tuple(f.message.rstrip(".") for f in findings if f.severity is SEVERITY_ORDER[0])
    page = case_page(facts, rows, findings, views, viewer)
    return CaseReport(record, page, thumbnail(views), review, reasons)


def _viewer_data(facts: CaseFacts, config: QualityReportConfig) -> ViewerData | None:
    if not config.viewer:
        return None
    return viewer_data(facts.ct, facts.labels, config.viewer_spacing_mm)
