"""The written outcome of an evaluation: CSV and JSON for programs, Markdown and HTML for people."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path

import numpy as np
import pandas as pd

from payerseg.domain.colors import hex_color_of
from payerseg.domain.vertebra import Vertebra
from payerseg.evaluation.case_scores import CaseScores
from payerseg.evaluation.tables import (
    Comparison,
    Figures,
    Interval,
    figures,
    figures_table,
    scan_table,
    summed_by,
    vertebra_table,
)
from payerseg.version import __version__

WIDTH, HEIGHT = 900, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 10, 34, 34
_PLOT_WIDTH, _PLOT_HEIGHT = WIDTH - _LEFT - _RIGHT, HEIGHT - _TOP - _BOTTOM
_JITTER_SEED = 1


def bar_chart(title: str, shares: Mapping[str, tuple[int, int]]) -> str:
    """Draw hits of total per vertebra level.

    Args:
        title: above the plot.
        shares: level → (hits, total); a total of 0 leaves the place empty.
    """
    levels = _ordered(shares)
    parts = [_frame(title, 0.0, 1.0, levels)]
    step = _PLOT_WIDTH / max(len(levels), 1)
    for k, level in enumerate(levels):
        hits, total = shares[level]
        if total == 0:
            continue
        height = _PLOT_HEIGHT * hits / total
        x, y = _LEFT + (k + 0.15) * step, _TOP + _PLOT_HEIGHT - height
        color = hex_color_of(Vertebra[level].verse_label)
        parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{0.7 * step:.1f}" height="{height:.1f}" '
            f'fill="{color}" stroke="#555"><title>{level}: {hits} of {total}</title></rect>'
        )
        middle = x + 0.35 * step
        parts.append(f'<text x="{middle:.1f}" y="{_TOP - 4}" class="small">{hits}/{total}</text>')
    return _svg(parts)


def strip_chart(
    title: str,
    values: Mapping[str, Sequence[tuple[str, float]]],
    limits: tuple[float, float] | None = None,
) -> str:
    """Draw every single value per vertebra level, and the median as a line.

    Args:
        title: above the plot.
        values: level → (case, value) pairs.
        limits: of the axis; None fits the values, from 0.
    """
    levels = _ordered(values)
    flat = [value for pairs in values.values() for _, value in pairs]
    low, high = limits or (0.0, _round_up(max([1e-3, *flat])))
    parts = [_frame(title, low, high, levels)]
    step = _PLOT_WIDTH / max(len(levels), 1)
    jitter = np.random.default_rng(_JITTER_SEED)
    for k, level in enumerate(levels):
        color = hex_color_of(Vertebra[level].verse_label)
        for case, value in values[level]:
            x = _LEFT + (k + 0.5 + jitter.uniform(-0.25, 0.25)) * step
            parts.append(
                f'<circle cx="{x:.1f}" cy="{_y(value, low, high):.1f}" r="3.2" fill="{color}" '
                f'stroke="#555"><title>{escape(case)} {level}: {value:.3g}</title></circle>'
            )
        if values[level]:
            y = _y(float(np.median([value for _, value in values[level]])), low, high)
            x = _LEFT + (k + 0.15) * step
            parts.append(
                f'<line x1="{x:.1f}" x2="{x + 0.7 * step:.1f}" y1="{y:.1f}" y2="{y:.1f}" '
                'stroke="currentColor" stroke-width="1.5"/>'
            )
    return _svg(parts)


def _ordered(levels: Mapping[str, object]) -> list[str]:
    return sorted(levels, key=lambda name: Vertebra[name].rank)


def _round_up(value: float) -> float:
    """Return the next 1, 2, 4 or 8 times a power of ten: quarters of it are short numbers."""
    power = 10.0 ** np.floor(np.log10(value))
    return float(next(step * power for step in (1, 2, 4, 8, 10) if value <= step * power * 1.0001))


def _y(value: float, low: float, high: float) -> float:
    part = (min(max(value, low), high) - low) / (high - low)
    return _TOP + _PLOT_HEIGHT * (1 - part)


def _frame(title: str, low: float, high: float, levels: list[str]) -> str:
    """Draw title, axis, grid lines and level names."""
    parts = [f'<text x="{_LEFT}" y="12" class="title">{escape(title)}</text>']
    for part in (0.0, 0.25, 0.5, 0.75, 1.0):
        value = low + part * (high - low)
        y = _y(value, low, high)
        parts.append(
            f'<line x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" class="grid"/>'
            f'<text x="{_LEFT - 5}" y="{y + 4:.1f}" class="tick">{value:.3g}</text>'
        )
    step = _PLOT_WIDTH / max(len(levels), 1)
    for k, level in enumerate(levels):
        x = _LEFT + (k + 0.5) * step
        parts.append(f'<text x="{x:.1f}" y="{HEIGHT - 14}" class="small">{level}</text>')
    return "".join(parts)


def _svg(parts: list[str]) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" xmlns="http://www.w3.org/2000/svg">'
        f"{''.join(parts)}</svg>"
    )


NO_VALUE = "–"
MOST_COLUMNS = 4
"""More groups than that are listed downwards."""

Rows = list[list[str]]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Everything an evaluation found.

    Attributes:
        name: of the results.
        cases: scores.
        figures: of each group.
        left_out: case → why it was not scored.
        comparison: with a second results folder, None without.
    """

    name: str
    cases: tuple[CaseScores, ...]
    figures: tuple[Figures, ...]
    left_out: dict[str, str]
    comparison: Comparison | None = None


def summarize(
    name: str, cases: Sequence[CaseScores], left_out: dict[str, str], draws: int, seed: int
) -> Evaluation:
    """Return the evaluation of scored cases, without a comparison."""
    return Evaluation(name, tuple(cases), tuple(figures(cases, draws, seed)), dict(left_out))


def write_evaluation(evaluation: Evaluation, folder: Path) -> list[Path]:
    """Write `vertebrae.csv scans.csv levels.csv regions.csv groups.csv` and the three summaries.

    Returns:
        The written files; the last is the HTML page.
    """
    folder.mkdir(parents=True, exist_ok=True)
    vertebrae = vertebra_table(evaluation.cases)
    tables = {
        "vertebrae": vertebrae,
        "scans": scan_table(evaluation.cases),
        "levels": summed_by(vertebrae, "vertebra"),
        "regions": summed_by(vertebrae, "region"),
        "groups": figures_table(evaluation.figures),
    }
    if evaluation.comparison is not None:
        tables["changed"] = evaluation.comparison.changed
    written = []
    for name, table in tables.items():
        path = folder / f"{name}.csv"
        table.to_csv(path, index=False, float_format="%.6g", lineterminator="\n")
        written.append(path)
    texts = {
        "summary.json": as_json(evaluation),
        "summary.md": as_markdown(evaluation),
        "report.html": as_html(evaluation),
    }
    for name, text in texts.items():
        (folder / name).write_bytes(text.encode("utf-8"))
        written.append(folder / name)
    return written


def as_json(evaluation: Evaluation) -> str:
    """Return figures, differences and what was left out as JSON."""
    data: dict[str, object] = {
        "payerseg": __version__,
        "results": evaluation.name,
        "figures": [asdict(one) for one in evaluation.figures],
        "left_out": evaluation.left_out,
        "refused": {case.case_id: case.refused for case in evaluation.cases if case.refused},
        "notes": {case.case_id: case.notes for case in evaluation.cases if case.notes},
    }
    if evaluation.comparison is not None:
        data["comparison"] = {
            "first": evaluation.comparison.first,
            "second": evaluation.comparison.second,
            "cases": evaluation.comparison.cases,
            "differences": [asdict(one) for one in evaluation.comparison.differences],
        }
    return json.dumps(data, indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def figure_rows(found: Sequence[Figures]) -> Rows:
    """Return the figures as text, names first: a line per figure, or per group where they are many."""
    rows = [["", *(one.group for one in found)]]
    lines: dict[str, Callable[[Figures], str]] = {
        "scans (vertebrae)": lambda f: f"{f.scans} ({f.vertebrae})",
        "identified within 20 mm": lambda f: _interval(f.id_rate, percent=True),
        "… no other true centre nearer": lambda f: _interval(f.strict_id_rate, percent=True),
        "missed / extra": lambda f: f"{f.missed} / {f.extra}",
        "mean distance, mm": lambda f: _interval(f.distance_mm),
        "… slices of 4 mm and more": lambda f: _interval(f.distance_thick_mm),
        "scans all right": lambda f: f"{f.all_right} of {f.scans}",
        "… and nothing else named": lambda f: f"{f.strictly_all_right} of {f.scans}",
        "scans with shifted levels": lambda f: str(f.shifted),
        "wrong scans silent / flagged": lambda f: f"{f.silently_wrong} / {f.wrong_flagged}",
        "right scans flagged": lambda f: str(f.right_flagged),
        "true names among the stated": lambda f: f"{f.in_set} of {f.stated}",
        "AUC of the stated probability": lambda f: _or_dash(f.probability_auc, ".3f"),
        "centres outside stage 1's box": lambda f: _or_dash(f.outside_box),
        "Dice": lambda f: _interval(f.dice, digits=3),
        "worst level": _worst,
        "HD95, mm": lambda f: _interval(f.hd95_mm),
        "ASSD, mm": lambda f: _interval(f.assd_mm),
        "scans without spine right": lambda f: f"{f.no_spine_right} of {f.no_spine_scans}",
    }
    for name, text in lines.items():
        cells = [text(one) for one in found]
        if any(cell not in (NO_VALUE, "0 of 0") for cell in cells):
            rows.append([name, *cells])
    return rows if len(found) <= MOST_COLUMNS else [list(row) for row in zip(*rows, strict=True)]


def comparison_rows(comparison: Comparison) -> Rows:
    """Return the differences as text, names first; "*" where the interval leaves out zero."""
    rows = [["", comparison.first, comparison.second, "difference", "better / worse / all"]]
    for one in comparison.differences:
        difference = _interval(one.difference, digits=3) + (" *" if one.clear else "")
        counts = f"{one.better} / {one.worse} / {one.n}"
        rows.append([one.score, f"{one.first:.3f}", f"{one.second:.3f}", difference, counts])
    return rows


def scan_rows(cases: Sequence[CaseScores]) -> Rows:
    """Return a line per scan in words, wrong ones first, names first."""
    rows = [["scan", "group", "identified", "mm", "Dice", "status", "what is wrong"]]
    for case in sorted(cases, key=lambda c: (c.landmarks.all_right, c.case_id)):
        marks, distances = case.landmarks, case.landmarks.distances_mm
        dices = [score.dice for score in case.masks]
        rows.append(
            [
                case.case_id,
                case.group,
                f"{marks.count('identified')}/{marks.n_true}",
                f"{distances.mean():.2f}" if distances.size else NO_VALUE,
                f"{sum(dices) / len(dices):.3f}" if dices else NO_VALUE,
                case.status,
                what_is_wrong(case) or "",
            ]
        )
    return rows


def level_rows(cases: Sequence[CaseScores]) -> Rows:
    """Return a line per vertebra, head to foot, names first."""
    rows = [["vertebra", "identified", "extra", "mm", "Dice"]]
    for level in summed_by(vertebra_table(cases), "vertebra").to_dict("records"):
        cells = [level["vertebra"], f"{level['identified']}/{level['true']}", str(level["extra"])]
        for name, how in (("distance_mm", ".2f"), ("dice", ".3f")):
            cells.append(NO_VALUE if pd.isna(level[name]) else format(level[name], how))
        rows.append(cells)
    return rows


def what_is_wrong(case: CaseScores) -> str:
    """Say what is wrong with a scan, "" where nothing is."""
    marks, parts = case.landmarks, []
    run = marks.shift
    shifted = {
        v for v in Vertebra if run.first and run.last and run.first.rank <= v.rank <= run.last.rank
    }
    if run.first and run.last:
        parts.append(f"{run.first.name}-{run.last.name} named {run.levels:+d} levels")
    for outcome, word in (("missed", "missed"), ("extra", "extra"), ("far", "too far")):
        told = shifted if outcome == "far" else set()
        found = [one for one in marks.outcomes if one.outcome == outcome]
        names = [one.vertebra.name for one in found if one.nearest not in told]
        if names:
            parts.append(f"{word}: {', '.join(names)}")
    mixed = [one for one in marks.outcomes if one.outcome == "mixed_up"]
    parts += [
        f"{one.vertebra.name} lies at {one.nearest.name}"
        for one in mixed
        if one.nearest and one.nearest not in shifted
    ]
    if parts and not case.needs_review:
        parts.append("not flagged")
    return "; ".join(parts)


def as_markdown(evaluation: Evaluation) -> str:
    """Return the figures, the comparison and a line per scan as Markdown."""
    parts = [
        f"# Evaluation of {evaluation.name}\n",
        markdown_table(figure_rows(evaluation.figures)),
    ]
    parts.append(
        "\nIn brackets 95 % intervals (bootstrap over scans). "
        "Definitions: docs/evaluation.md of payerseg.\n"
    )
    if evaluation.comparison is not None:
        parts += ["\n## Comparison\n", markdown_table(comparison_rows(evaluation.comparison))]
    parts += ["\n## Scans\n", markdown_table(scan_rows(evaluation.cases))]
    parts += ["\n## Vertebrae\n", markdown_table(level_rows(evaluation.cases))]
    if evaluation.left_out:
        rows = [["left out", "why"], *([k, v] for k, v in evaluation.left_out.items())]
        parts += ["\n## Not scored\n", markdown_table(rows)]
    return "\n".join(parts) + "\n"


def as_html(evaluation: Evaluation) -> str:
    """Return one page that needs nothing else, with plots."""
    import jinja2

    texts = jinja2.Environment(
        loader=jinja2.PackageLoader("payerseg.evaluation", ""), autoescape=True, trim_blocks=True
    )
    return texts.get_template("report.html").render(
        title=f"Evaluation of {evaluation.name}",
        figures=figure_rows(evaluation.figures),
        comparison=comparison_rows(evaluation.comparison) if evaluation.comparison else None,
        charts=_charts(vertebra_table(evaluation.cases)),
        scans=scan_rows(evaluation.cases),
        left_out=[["left out", "why"], *evaluation.left_out.items()],
        version=__version__,
    )


def _charts(vertebrae: pd.DataFrame) -> list[str]:
    true = vertebrae[vertebrae["outcome"].notna() & ~vertebrae["outcome"].str.contains("extra")]
    shares = {
        str(level): (int((part["outcome"] == "identified").sum()), len(part))
        for level, part in true.groupby("vertebra")
    }
    hits = true[true["outcome"] == "identified"]
    charts = [bar_chart("identified / true", shares)] if shares else []
    for column, title, limits in (
        ("distance_mm", "distance of identified centres, mm", None),
        ("dice", "Dice", (0.0, 1.0)),
        ("hd95_mm", "HD95, mm", None),
    ):
        source = hits if column == "distance_mm" else vertebrae
        known = source[source[column].notna()]
        values = {
            str(level): list(zip(part["case"], part[column].astype(float), strict=True))
            for level, part in known.groupby("vertebra")
        }
        if values:
            charts.append(strip_chart(title, values, limits))
    return charts


def _interval(interval: Interval | None, *, percent: bool = False, digits: int = 2) -> str:
    if interval is None:
        return NO_VALUE
    if percent:
        value, low, high = (100 * v for v in (interval.value, interval.low, interval.high))
        return f"{value:.1f} % [{low:.1f}, {high:.1f}]"
    return f"{interval.value:.{digits}f} [{interval.low:.{digits}f}, {interval.high:.{digits}f}]"


def _worst(found: Figures) -> str:
    if found.dice_worst_level is None:
        return NO_VALUE
    return f"{found.dice_worst_level} {found.dice_of_worst_level:.3f}"


def _or_dash(value: float | None, how: str = "d") -> str:
    return NO_VALUE if value is None else format(value, how)


def markdown_table(rows: Rows) -> str:
    """Return rows, the first one as the head, as a Markdown table."""
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])
