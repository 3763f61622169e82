"""Pages from the templates in assets/; Jinja escapes every text that comes from outside."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from payerseg.imaging.pictures import encode_png
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
