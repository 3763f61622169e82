"""The page of one case: one HTML file that needs nothing else."""

from __future__ import annotations

from html import escape
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
from payerseg.report.details import details_html
from payerseg.report.figures import CurvedView
from payerseg.report.findings import Finding, Severity
from payerseg.report.html_text import NO_NETWORK, asset, chip, embedded_json, fill, png_source
from payerseg.report.vertebra_rows import VertebraRow
from payerseg.report.viewer_data import ViewerData
from payerseg.version import __version__

NAMED_SIDES = {"sagittal": ("A", "P"), "coronal": ("R", "L")}
HINT = (
    "Click a row, a name or a picture to go there · wheel: slices · Ctrl+wheel: zoom · right drag: "
    "window · <kbd>j</kbd> <kbd>k</kbd> vertebra · <kbd>m</kbd> mask · <kbd>1</kbd>–<kbd>3</kbd> "
    "window · <kbd>f</kbd> fit"
)
HINT_WITHOUT_VIEWER = "Click a row or a name to mark it · <kbd>j</kbd> <kbd>k</kbd> vertebra"


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
    flagged = {level for f in findings if f.severity is Severity.REVIEW for level in f.levels}
    return fill(
        "case.html",
        {
            "policy": NO_NETWORK,
            "title": escape(facts.case_id),
            "style": asset("page.css") + asset("case.css"),
            "status": _status(facts, findings),
            "summary": _summary(facts, rows),
            "tools": _tools(viewer=viewer is not None),
            "layout": "" if viewer else "alone",
            "curved": "".join(_curved_html(view, flagged) for view in views),
            "planes": _PLANES if viewer else "",
            "hint": HINT if viewer else HINT_WITHOUT_VIEWER,
            "details": details_html(facts, rows, findings),
            "version": escape(__version__),
            "facts": embedded_json(_for_script(rows, views, viewer)),
            "script": asset("viewer.js") + asset("case.js").replace('"use strict";\n', "", 1),
        },
    )


def needs_review(facts: CaseFacts, findings: tuple[Finding, ...]) -> bool:
    """Tell whether this stage or stage 2 asks for a person."""
    told = bool(facts.decision.get("needs_review")) and not facts.edits()
    return told or any(finding.severity is Severity.REVIEW for finding in findings)


def _status(facts: CaseFacts, findings: tuple[Finding, ...]) -> str:
    return chip("review", "needs review") if needs_review(facts, findings) else chip("ok", "ok")


def _summary(facts: CaseFacts, rows: tuple[VertebraRow, ...]) -> str:
    grid = facts.scan.source.grid
    size = " × ".join(str(n) for n in grid.shape[::-1])
    spacing = " × ".join(f"{s:.3g}" for s in grid.spacing_mm)
    names = [row.level for row in rows]
    ends = f" {names[0]}–{names[-1]}" if len(names) > 1 else f" {names[0]}" if names else ""
    count = f"{len(names)} vertebra{'e' if len(names) != 1 else ''}"
    return f"{count}{ends} · {escape(facts.scan.file_name)} · {size} voxels of {spacing} mm"


def _tools(*, viewer: bool) -> str:
    def group(name: str, choices: tuple[tuple[str, str], ...]) -> str:
        buttons = "".join(f'<button data-{name}="{k}">{text}</button>' for k, text in choices)
        return f'<span class="group">{buttons}</span>'

    masks = (("outline", "Outline"), ("fill", "Fill"), ("off", "Off"))
    if not viewer:
        return f'<div class="tools">Mask {group("mask", (masks[0], masks[2]))}</div>'
    windows = (("bone", "Bone"), ("soft", "Soft tissue"), ("lung", "Lung"))
    zooms = (("0.7", "−"), ("0", "Fit"), ("1.43", "+"))
    return (
        f'<div class="tools">{group("window", windows)}'
        f'{group("mask", masks)}{group("zoom", zooms)}<output id="place"></output></div>'
    )


_PLANES = (
    '<div class="planes"><canvas></canvas><canvas></canvas><canvas></canvas>'
    '<div class="wait">opening the scan …</div></div>'
)


def _curved_html(view: CurvedView, flagged: set[str]) -> str:
    height, width = view.grey.shape
    left, right = NAMED_SIDES[view.name]
    box = f'x="0" y="0" width="{width}" height="{height}"'
    marks = []
    for level, (row, column) in view.marks.items():
        color = hex_color_of(Vertebra[level].verse_label)
        extra = " flagged" if level in flagged else ""
        at = f'cx="{column + 0.5:.1f}" cy="{row + 0.5:.1f}"'
        name = f'<text x="5" y="{row + 4.5:.1f}">{level}</text>' if view.name == "sagittal" else ""
        marks.append(
            f'<g class="mark{extra}" data-level="{level}"><title>{level}</title>'
            f'<rect x="0" y="{row - 7:.1f}" width="30" height="15" fill="#0000"/>'
            f'<circle {at} r="3.2" fill="{color}"/>{name}</g>'
        )
    return (
        f'<figure style="flex-grow:{width}">'
        f'<svg viewBox="0 0 {width} {height}" data-view="{view.name}" role="img" '
        f'aria-label="{view.name} view along the spine" preserveAspectRatio="xMidYMid meet">'
        f'<g class="pane"><image {box} href="{png_source(view.grey)}"/>'
        f'<image class="overlay" {box} href="{png_source(view.overlay)}"/></g>'
        f'<line class="here row" x2="{width}" y1="0" y2="0" transform="translate(0 -9)"/>'
        f'<line class="here column" y2="{height}" transform="translate(-9 0)"/>'
        f'<text class="side" x="5" y="{height - 6}">{left}</text>'
        f'<text class="side" x="{width - 5}" y="{height - 6}" text-anchor="end">{right}</text>'
        f"{''.join(marks)}</svg></figure>"
    )


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
