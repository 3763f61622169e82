"""The page of one case: one HTML file that needs nothing else."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from payerseg.domain.colors import (
    COLORS,
    RIM_COLOR,
    RIMMED_LABELS,
    as_hex,
    hex_color_of,
    name_of,
)
from payerseg.domain.vertebra import Vertebra
from payerseg.imaging.pictures import encode_png
from payerseg.report.case_facts import SHORT_TITLES, TITLES, CaseFacts, Finding, Severity
from payerseg.report.checks import distances_mm
from payerseg.report.figures import CurvedView
from payerseg.report.mask_checks import MaskFacts
from payerseg.report.viewer_data import ViewerData
from payerseg.version import __version__


def render(template: str, values: Mapping[str, Any]) -> str:
    """Return a page that needs nothing but itself.

    Args:
        template: a file of assets/.
        values: what it names; `data` becomes the JSON that the page's script reads.
    """
    return _environment().get_template(template).render(values, version=__version__)


def number(value: float | None, digits: int = 1) -> str:
    """Return a rounded number, a dash for none."""
    return "–" if value is None else f"{value:.{digits}f}"


def png_source(content: bytes) -> str:
    """Return a PNG file as the source of an image element."""
    return f"data:image/png;base64,{base64.b64encode(content).decode('ascii')}"


def _png(picture: np.ndarray) -> str:
    return png_source(encode_png(picture))


def _asset(name: str) -> Markup:
    """Return a style sheet or script of ours, as it is."""
    return Markup((files("payerseg.report") / "assets" / name).read_text("utf-8"))  # noqa: S704


@cache
def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("payerseg.report", "assets"), autoescape=True, trim_blocks=True,
        lstrip_blocks=True, undefined=StrictUndefined,
    )  # fmt: skip
    made.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}
    made.globals["asset"] = _asset
    made.filters |= {"number": number, "png": _png}
    return made


HEIGHTS = ("height_anterior", "height_middle", "height_posterior")


@dataclass(frozen=True, slots=True)
class VertebraRow:
    """One vertebra; None where something is not known.

    Attributes:
        level: its name.
        label: VerSe label.
        color: "#rrggbb".
        position_mm: LPS centre; None for a mask without a centre.
        score: probability that the name is right; None once a person has edited the names.
        volume_ml: of the mask.
        heights_mm: anterior, middle, posterior.
        core_hu: mean of the trabecular core.
        next_mm: distance to the next lower vertebra that was found.
        flags: of the landmark.
        findings: codes of what was found about it, the most severe first.
    """

    level: str
    label: int
    color: str
    position_mm: tuple[float, float, float] | None
    score: float | None
    volume_ml: float | None
    heights_mm: tuple[float | None, float | None, float | None]
    core_hu: float | None
    next_mm: float | None
    flags: tuple[str, ...]
    findings: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


def vertebra_rows(
    facts: CaseFacts, masks: Mapping[Vertebra, MaskFacts], findings: Iterable[Finding]
) -> tuple[VertebraRow, ...]:
    """Return a row for every vertebra with a centre or a mask, head to foot."""
    findings, next_mm = tuple(findings), distances_mm(facts.landmarks)
    edited = bool(facts.edits())
    rows = []
    for vertebra in sorted({*facts.landmarks, *masks}):
        mark, mask = facts.landmarks.get(vertebra), masks.get(vertebra)
        measured = facts.measured_of(vertebra.name)
        values = {name: round(row.value, 3) for name, row in measured.items()}
        told = dict.fromkeys(f.code for f in findings if vertebra.name in f.levels)
        rows.append(
            VertebraRow(
                level=vertebra.name,
                label=vertebra.verse_label,
                color=hex_color_of(vertebra.verse_label),
                position_mm=mark.position_mm if mark else None,
                score=round(mark.score, 4) if mark and not edited else None,
                volume_ml=round(mask.volume_ml, 3) if mask else None,
                heights_mm=(values.get(HEIGHTS[0]), values.get(HEIGHTS[1]), values.get(HEIGHTS[2])),
                core_hu=values.get("core_hu_mean"),
                next_mm=round(next_mm[vertebra], 2) if vertebra in next_mm else None,
                flags=mark.flags if mark else (),
                findings=tuple(told),
            )
        )
    return tuple(rows)


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
