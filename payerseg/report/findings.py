"""A finding: one thing about a result that a person may want to know, in plain words."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class Severity(StrEnum):
    """How much a finding matters; the order is that of the page."""

    REVIEW = "review"  # look before the result is used; makes the case ok_needs_review
    WARNING = "warning"  # unusual, mostly harmless; look when this vertebra matters
    INFO = "info"  # a fact about the scan or the result


SEVERITY_ORDER = tuple(Severity)

TITLES = {
    "naming": "Names are uncertain",
    "turned": "The body lies otherwise than the header says",
    "values": "Values are not Hounsfield units",
    "gap": "A vertebra is missing",
    "doubled_level": "Two centres lie too close",
    "wide_spacing": "Two centres lie too far apart",
    "order": "Centres are out of order",
    "outside_scan": "A centre lies outside the scan",
    "empty_mask": "A vertebra has no mask",
    "off_landmark": "Mask and centre do not meet",
    "size": "Unusual size for its level",
    "leak": "The mask leaks",
    "fragments": "The mask is in pieces",
    "asymmetry": "Left and right differ",
    "segmentation": "Remark of the segmentation",
    "metal": "Metal or cement",
    "border": "Cut by the edge of the scan",
    "level": "What the level rests on",
    "edited": "Edited by hand",
    "scan": "About the scan",
}
"""Every code, in the order in which findings of one severity are listed."""

SHORT_TITLES = {
    "naming": "name", "turned": "turned", "values": "values", "gap": "gap",
    "doubled_level": "doubled?", "wide_spacing": "skipped?", "order": "order",
    "outside_scan": "outside", "empty_mask": "no mask", "off_landmark": "off centre",
    "size": "size", "leak": "leak", "fragments": "pieces", "asymmetry": "asymmetric",
    "segmentation": "mask", "metal": "metal", "border": "cut", "level": "level",
    "edited": "edited", "scan": "scan",
}  # fmt: skip
_CODE_ORDER = {code: place for place, code in enumerate(TITLES)}


@dataclass(frozen=True, slots=True)
class Finding:
    """One remark.

    Attributes:
        code: stable name, a key of `TITLES`.
        severity: whether it asks for a person.
        message: a sentence.
        levels: the vertebrae it is about, by name; () = the whole case.
    """

    code: str
    severity: Severity
    message: str
    levels: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self) | {"severity": str(self.severity), "levels": list(self.levels)}


def in_order(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Sort by severity, then by code; the order among equals stays."""
    return tuple(
        sorted(findings, key=lambda f: (SEVERITY_ORDER.index(f.severity), _CODE_ORDER[f.code]))
    )
