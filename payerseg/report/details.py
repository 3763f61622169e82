"""The right side of the case page: findings, vertebrae, curves, alternatives, how it was made."""

from __future__ import annotations

from html import escape

from payerseg.report.case_facts import CaseFacts
from payerseg.report.findings import TITLES, Finding, Severity
from payerseg.report.html_text import NO_VALUE, cells, chip, number
from payerseg.report.vertebra_rows import VertebraRow
from payerseg.version import __version__

LOW_SCORE = 0.6
SHORT = 12
"""Signs of a fingerprint that are shown."""
SHOWN_ALTERNATIVES = 5
CURVES = {
    "cobb_coronal": "Cobb angle, coronal",
    "thoracic_kyphosis": "Thoracic kyphosis",
    "lumbar_lordosis": "Lumbar lordosis",
}
SHORT_TITLES = {
    "gap": "gap", "doubled_level": "doubled?", "wide_spacing": "skipped?", "order": "order",
    "outside_scan": "outside", "empty_mask": "no mask", "off_landmark": "off centre", "size": "size",
    "leak": "leak", "fragments": "pieces", "asymmetry": "asymmetric", "segmentation": "mask",
    "metal": "metal", "border": "cut", "edited": "edited", "naming": "name", "scan": "scan",
}  # fmt: skip


def details_html(
    facts: CaseFacts, rows: tuple[VertebraRow, ...], findings: tuple[Finding, ...]
) -> str:
    """Return the cards below each other."""
    return "".join(
        (
            _findings_card(findings),
            _vertebrae_card(rows, findings),
            _curves_card(facts),
            _alternatives_card(facts),
            _making_card(facts),
        )
    )


def _findings_card(findings: tuple[Finding, ...]) -> str:
    if not findings:
        body = '<p class="muted">Nothing suspicious was found.</p>'
    else:
        body = f'<ul class="findings">{"".join(map(_finding_html, findings))}</ul>'
    return f'<div class="card"><h2>Findings</h2>{body}</div>'


def _finding_html(finding: Finding) -> str:
    links = " ".join(
        f'<a data-level="{escape(level)}" tabindex="0">{escape(level)}</a>'
        for level in finding.levels
    )
    return (
        f'<li data-code="{finding.code}">{chip(finding.severity, finding.severity)}'
        f"<div><b>{escape(TITLES[finding.code])}</b> {links}<p>{escape(finding.message)}</p></div></li>"
    )


def _vertebrae_card(rows: tuple[VertebraRow, ...], findings: tuple[Finding, ...]) -> str:
    severity = {}
    for finding in findings:  # the most severe comes first
        for level in finding.levels:
            severity.setdefault((level, finding.code), finding.severity)
    head = (
        '<th class="l">Level</th><th>Score</th><th>Height <small>ant / mid / post mm</small></th>'
        "<th>Volume <small>ml</small></th><th>Core <small>HU</small></th>"
        '<th>To next <small>mm</small></th><th class="l">Flags</th>'
    )
    body = "".join(_vertebra_html(row, severity) for row in rows)
    return (
        '<div class="card"><h2>Vertebrae</h2><table class="vertebrae"><thead><tr>'
        f"{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _vertebra_html(row: VertebraRow, severity: dict[tuple[str, str], Severity]) -> str:
    flags = "".join(
        f'<span class="chip flag {severity[row.level, code]}" title="{escape(TITLES[code])}">'
        f"{SHORT_TITLES[code]}</span>"
        for code in row.findings
    )
    shown = {SHORT_TITLES[code] for code in row.findings}
    flags += "".join(
        f'<span class="chip flag info">{escape(flag.replace("_", " "))}</span>'
        for flag in row.flags
        if flag not in shown
    )
    heights = " / ".join(number(value) for value in row.heights_mm)
    low = ' class="low"' if row.score is not None and row.score < LOW_SCORE else ""
    return (
        f'<tr data-level="{row.level}" tabindex="0">'
        f'<td class="l"><span class="dot" style="background:{row.color}"></span>{row.level}</td>'
        f"<td{low}>{_score_html(row.score)}</td>"
        f"{cells([heights if any(row.heights_mm) else NO_VALUE, number(row.volume_ml)])}"
        f"{cells([number(row.core_hu, 0), number(row.next_mm)])}"
        f'<td class="l wrap">{flags}</td></tr>'
    )


def _score_html(score: float | None) -> str:
    if score is None:
        return NO_VALUE
    return f'<span class="score"><i style="width:{100 * score:.0f}%"></i></span>{score:.2f}'


def _curves_card(facts: CaseFacts) -> str:
    rows = [row for row in facts.measured if row.quantity in CURVES]
    if not rows:
        return ""
    body = "".join(
        f'<tr><td class="l">{CURVES[row.quantity]}</td><td class="l n">{escape(row.level)}</td>'
        f'<td class="n">{row.value:.1f}°</td><td class="l muted">{escape(row.note)}</td></tr>'
        for row in rows
    )
    return (
        f'<div class="card"><h2>Curves</h2><table class="plain"><tbody>{body}</tbody></table></div>'
    )


def _alternatives_card(facts: CaseFacts) -> str:
    decision = facts.decision
    others = decision.get("alternatives", ())
    if facts.edits():
        return ""  # they are about names that a person has replaced
    if not others and "level_probability" not in decision:
        return ""
    sure = f"{decision.get('level_probability', 1.0):.3f}"
    rows = [f'<tr><td class="l"><b>chosen</b></td><td>{sure}</td><td>{NO_VALUE}</td></tr>']
    for other in others[:SHOWN_ALTERNATIVES]:
        labels = other["labels"]
        ends = f"{labels[0]}–{labels[-1]}" if labels else NO_VALUE
        rows.append(
            f'<tr><td class="l">{escape(other["change"])} <span class="muted">({escape(ends)})</span>'
            f"</td><td>{other['probability']:.3f}</td><td>{other['margin']:.1f}</td></tr>"
        )
    return (
        '<div class="card"><h2>Other ways to name these vertebrae</h2><table class="plain"><thead><tr>'
        '<th class="l">What would differ</th><th>Probability</th><th>Behind by <small>nats</small></th>'
        f"</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _making_card(facts: CaseFacts) -> str:
    """Times, weights and versions, from the manifests of the earlier stages."""
    lines = []
    for manifest in facts.manifests:
        weights = manifest.weights or ""
        lines.append(
            f'<tr><td class="l">{escape(manifest.stage.replace("_", " "))}</td>'
            f'<td class="n">{manifest.seconds:.1f} s</td>'
            f'<td class="n">{manifest.peak_rss_mb:.0f} MB</td>'
            f'<td class="l"><code title="{escape(weights)}">{escape(_short(weights))}</code></td>'
            f'<td class="l n">{escape(manifest.started.replace("T", " ")[:16])}</td></tr>'
        )
    table = (
        '<table class="plain"><thead><tr><th class="l">Stage</th><th>Time</th><th>Peak</th>'
        f'<th class="l">Weights</th><th class="l">Started</th></tr></thead><tbody>{"".join(lines)}'
        "</tbody></table>"
    )
    versions: dict[str, str] = {"payerseg": __version__}
    for manifest in facts.manifests:
        versions |= {str(k): str(v) for k, v in manifest.versions.items()}
    told = " · ".join(f"{escape(name)} {escape(value)}" for name, value in versions.items())
    scan = " · ".join(
        f"{escape(str(k).replace('_', ' '))} {escape(str(v))}" for k, v in facts.scan.facts.items()
    )
    return (
        '<div class="card"><details><summary>How this was made</summary>'
        f'{table if lines else ""}<p>{told}</p><p class="muted">Scan: {scan or NO_VALUE}</p>'
        "</details></div>"
    )


def _short(weights: str) -> str:
    digest = weights.rsplit(":", maxsplit=1)[-1]
    return digest[:SHORT] if digest else NO_VALUE
