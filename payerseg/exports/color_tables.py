"""The colour table of the house in the files of viewers."""

from __future__ import annotations

from payerseg.domain.colors import LABELS_HEAD_TO_FOOT, color_of, hex_color_of, name_of
from payerseg.domain.vertebra import COCCYX_LABEL, SACRUM_LABEL

_LABELS = sorted(LABELS_HEAD_TO_FOOT)
_LONG_NAMES = {"C": "cervical vertebra", "T": "thoracic vertebra", "L": "lumbar vertebra"}


def itksnap_labels() -> str:
    """Return an ITK-SNAP label description file."""
    frame = "################################################"
    lines = [
        frame,
        "# ITK-SnAP Label Description File",
        "# File format: ",
        "# IDX   -R-  -G-  -B-  -A--  VIS MSH  LABEL",
        "# Fields: ",
        "#    IDX:   Zero-based index ",
        "#    -R-:   Red color component (0..255)",
        "#    -G-:   Green color component (0..255)",
        "#    -B-:   Blue color component (0..255)",
        "#    -A-:   Label transparency (0.00 .. 1.00)",
        "#    VIS:   Label visibility (0 or 1)",
        "#    IDX:   Label mesh visibility (0 or 1)",
        "#  LABEL:   Label description ",
        frame,
        _snap_row(0, (0, 0, 0), (0, 0, 0), "Clear Label"),
    ]
    lines += [_snap_row(label, color_of(label), (1, 1, 1), name_of(label)) for label in _LABELS]
    return "\n".join(lines) + "\n"


def slicer_color_table() -> str:
    """Return a 3D Slicer colour table (`.ctbl`)."""
    lines = ["# Color table file payerseg, VerSe labels", f"# {len(_LABELS) + 1} values"]
    lines.append("0 background 0 0 0 0")
    for label in _LABELS:
        red, green, blue = color_of(label)
        lines.append(f"{label} {name_of(label)} {red} {green} {blue} 255")
    return "\n".join(lines) + "\n"


def bids_lookup_table() -> str:
    """Return a BIDS `dseg.tsv`: index, name, abbreviation, color, mapping."""
    rows = ["index\tname\tabbreviation\tcolor\tmapping", "0\tbackground\tBG\t#000000\t0"]
    rows += [
        f"{label}\t{_long_name(label)}\t{_abbreviation(label)}\t{hex_color_of(label)}\t{label}"
        for label in _LABELS
    ]
    return "\n".join(rows) + "\n"


def _snap_row(
    index: int, color: tuple[int, int, int], shown: tuple[int, int, int], name: str
) -> str:
    red, green, blue = color
    return f'{index:5d}  {red:4d} {green:4d} {blue:4d}  {shown[0]:7d}  {shown[1]:d}  {shown[2]:d}    "{name}"'


def _long_name(label: int) -> str:
    if label in (SACRUM_LABEL, COCCYX_LABEL):
        return name_of(label)
    return f"{_LONG_NAMES[name_of(label)[0]]} {name_of(label)}"


def _abbreviation(label: int) -> str:
    return {SACRUM_LABEL: "SA", COCCYX_LABEL: "CO"}.get(label, name_of(label))
