"""The one colour table: a colour per VerSe label, in the order of the spine.

Hue runs once around the circle from head to foot, so a colour tells the region; lightness jumps
between neighbours, so neighbours stay apart in grey and for colour-blind eyes. The numbers were
searched: for normal, protan, deutan and tritan sight (simulation of Machado et al. 2009, full
severity) any two vertebrae up to three levels apart differ by at least 17 CIELAB units, direct
neighbours by 22 (the just noticeable difference is about 2.3).
"""

from __future__ import annotations

from payerseg.domain.vertebra import COCCYX_LABEL, SACRUM_LABEL, Vertebra

Rgb = tuple[int, int, int]

_HEAD_TO_FOOT: tuple[Rgb, ...] = (
    (169, 53, 16),
    (247, 164, 120),
    (254, 224, 223),
    (220, 62, 98),
    (155, 27, 100),
    (243, 128, 166),
    (247, 234, 247),
    (184, 99, 173),
    (119, 43, 166),
    (168, 167, 247),
    (244, 235, 247),
    (31, 133, 242),
    (32, 74, 145),
    (92, 201, 247),
    (206, 238, 246),
    (23, 123, 168),
    (24, 70, 90),
    (35, 182, 206),
    (82, 247, 237),
    (18, 128, 133),
    (23, 73, 54),
    (15, 188, 156),
    (130, 255, 192),
    (48, 145, 37),
    (15, 88, 15),
    (132, 184, 38),
    (217, 247, 79),
    (120, 118, 19),
)

LABELS_HEAD_TO_FOOT: tuple[int, ...] = (
    *(vertebra.verse_label for vertebra in Vertebra),
    SACRUM_LABEL,
    COCCYX_LABEL,
)
"""Every VerSe label that has a colour and a name."""

COLORS: dict[int, Rgb] = dict(zip(LABELS_HEAD_TO_FOOT, _HEAD_TO_FOOT, strict=True))
"""VerSe label → red, green, blue, 0..255."""

UNKNOWN_COLOR: Rgb = (128, 128, 128)
"""The colour of a label that names no vertebra."""

DARK_LUMA = 90.0
"""Lines of a darker colour than this (luma of ITU-R BT.601, 0..255) are lost on a CT's greys."""
_LUMA = (0.299, 0.587, 0.114)

RIMMED_LABELS: tuple[int, ...] = tuple(
    label
    for label, color in COLORS.items()
    if sum(part * value for part, value in zip(_LUMA, color, strict=True)) < DARK_LUMA
)
"""Labels whose outlines get a light rim; lighter colours instead would look like their neighbours'."""

RIM_COLOR: Rgb = (245, 245, 245)

_BELOW_LUMBAR = {SACRUM_LABEL: "sacrum", COCCYX_LABEL: "coccyx"}


def color_of(label: int) -> Rgb:
    """Return the colour of a VerSe label, grey for a number that means nothing."""
    return COLORS.get(label, UNKNOWN_COLOR)


def hex_color_of(label: int) -> str:
    """Return the colour of a VerSe label as `#rrggbb`."""
    return as_hex(color_of(label))


def as_hex(color: Rgb) -> str:
    """Return a colour as `#rrggbb`."""
    return "#{:02x}{:02x}{:02x}".format(*color)


def name_of(label: int) -> str:
    """Return "L1", "sacrum", … for a VerSe label; "label 99" for a number that means nothing."""
    if label in _BELOW_LUMBAR:
        return _BELOW_LUMBAR[label]
    if label in COLORS:
        return Vertebra(label).name
    return f"label {label}"
