"""Plots by vertebra level as inline SVG: bars of shares, strips of single values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

from payerseg.domain.colors import hex_color_of
from payerseg.domain.vertebra import Vertebra

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
