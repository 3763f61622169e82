"""Small pieces of HTML, every text from outside escaped; and the files that pages are made of."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

import numpy as np

from payerseg.imaging.pictures import encode_png

NO_VALUE = "–"
NO_NETWORK = (
    "default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
)
"""Content security policy: a page can load nothing, from nowhere."""


def asset(name: str) -> str:
    """Return the text of a file in `assets/`."""
    return (files("payerseg.report") / "assets" / name).read_text(encoding="utf-8")


def fill(name: str, texts: Mapping[str, str]) -> str:
    """Fill the placeholders of an HTML file in `assets/`; texts must be HTML already."""
    return Template(asset(name)).substitute(texts)


def embedded_json(value: Any) -> str:
    """Return JSON that cannot end the script element it stands in."""
    text = json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def png_source(picture: np.ndarray) -> str:
    """Return a uint8 picture as the source of an image element."""
    return f"data:image/png;base64,{base64.b64encode(encode_png(picture)).decode('ascii')}"


def chip(kind: str, text: str) -> str:
    """Return a small coloured label."""
    return f'<span class="chip {escape(kind)}">{escape(text)}</span>'


def cells(texts: Iterable[str]) -> str:
    """Return table cells of HTML texts."""
    return "".join(f"<td>{text}</td>" for text in texts)


def number(value: float | None, digits: int = 1) -> str:
    """Return a rounded number, a dash for none."""
    return NO_VALUE if value is None else f"{value:.{digits}f}"
