"""The page of one case: one HTML file that needs nothing else."""

from __future__ import annotations

from typing import Any

from payerseg.domain.colors import (
    COLORS,
    RIM_COLOR,
    RIMMED_LABELS,
    as_hex,
    hex_color_of,
    name_of,
)
from payerseg.domain.vertebra import Vertebra
from payerseg.report.case_facts import CaseFacts
from payerseg.report.figures import CurvedView
from payerseg.report.findings import SHORT_TITLES, TITLES, Finding, Severity
from payerseg.report.pages import render
from payerseg.report.vertebra_rows import VertebraRow
from payerseg.report.viewer_data import ViewerData
from payerseg.version import __version__

CURVES = {
    "cobb_coronal": "Cobb angle, coronal",
    "thoracic_kyphosis": "Thoracic kyphosis",
    "lumbar_lordosis": "Lumbar lordosis",
}


def case_page(
    facts: CaseFacts,
    rows: tuple[VertebraRow, ...],
    findings: tuple[Finding, ...],
    views: tuple[CurvedView, ...],
    viewer: ViewerData | None,
) -> str:
    """Return the page.

    Args:
        facts: of the case.
        rows: per vertebra.
        findings: most urgent first.
        views: of the straightened spine.
        viewer: the reduced scan; None leaves the three planes out.
    """
    severity: dict[tuple[str, str], Severity] = {}
    versions = {"payerseg": __version__}
    for finding in findings:  # the most severe comes first
        for level in finding.levels:
            severity.setdefault((level, finding.code), finding.severity)
    for manifest in facts.manifests:
        versions |= manifest.versions
    doubted = not facts.edits()  # alternatives are about names that a person may have replaced
    told = "alternatives" in facts.decision or "level_probability" in facts.decision
    return render(
        "case.html",
        {
            "title": facts.case_id,
            "review": needs_review(facts, findings),
            "summary": _summary(facts, rows),
            "findings": findings,
            "titles": TITLES,
            "short_titles": SHORT_TITLES,
            "severity": severity,
            "flagged": {level for (level, _), s in severity.items() if s is Severity.REVIEW},
            "rows": rows,
            "flags": {
                row.level: [
                    f for f in row.flags if f not in {SHORT_TITLES[c] for c in row.findings}
                ]
                for row in rows
            },
            "colors": {v.name: hex_color_of(v.verse_label) for v in Vertebra},
            "curves": [
                (CURVES[row.quantity], row) for row in facts.measured if row.quantity in CURVES
            ],
            "naming": facts.decision if doubted and told else None,
            "manifests": facts.manifests,
            "versions": versions,
            "scan_facts": facts.scan.facts,
            "views": views,
            "viewer": viewer is not None,
            "data": _for_script(rows, views, viewer),
        },
    )


def needs_review(facts: CaseFacts, findings: tuple[Finding, ...]) -> bool:
    """Tell whether this stage or stage 2 asks for a person."""
    told = bool(facts.decision.get("needs_review")) and not facts.edits()
    return told or any(finding.severity is Severity.REVIEW for finding in findings)


def _summary(facts: CaseFacts, rows: tuple[VertebraRow, ...]) -> str:
    grid = facts.scan.source.grid
    size = " × ".join(str(n) for n in grid.shape[::-1])
    spacing = " × ".join(f"{s:.3g}" for s in grid.spacing_mm)
    names = [row.level for row in rows]
    ends = f" {names[0]}–{names[-1]}" if len(names) > 1 else f" {names[0]}" if names else ""
    count = f"{len(names)} vertebra{'e' if len(names) != 1 else ''}"
    return f"{count}{ends} · {facts.scan.file_name} · {size} voxels of {spacing} mm"


def _for_script(
    rows: tuple[VertebraRow, ...], views: tuple[CurvedView, ...], viewer: ViewerData | None
) -> dict[str, Any]:
    placed = {row.level: {"position_mm": row.position_mm} for row in rows if row.position_mm}
    levels = list(placed)
    return {
        "levels": placed,
        "middle": levels[len(levels) // 2] if levels else None,
        "names": {str(label): name_of(label) for label in COLORS},
        "colors": {str(label): hex_color_of(label) for label in COLORS},
        "rims": {str(label): as_hex(RIM_COLOR) for label in RIMMED_LABELS},
        "curved": [
            {
                "name": view.name,
                "pixel_mm": view.curve.step_mm,
                "middle": view.middle,
                "points": view.curve.points_mm.round(2).tolist(),
                "axes": view.axes.round(4).tolist(),
            }
            for view in views
        ],
        "viewer": viewer.to_dict() if viewer else None,
    }
