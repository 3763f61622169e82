"""What the report knows about one case, as it was read from its artifacts, and what it finds in it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from payerseg.domain.landmarks import Landmarks
from payerseg.domain.vertebra import Vertebra
from payerseg.domain.volume import Volume
from payerseg.imaging.scan_record import ScanRecord
from payerseg.results.manifest import StageManifest

MOVED_MM = 0.05
"""A landmark further than this from where stage 2 put it was moved by a person (the table has 0.001)."""


class MeasuredValue(Protocol):
    """One measurement: level ("L1", "T4-T12"), quantity, value, unit, note."""

    level: str
    quantity: str
    value: float
    unit: str
    note: str


@dataclass(frozen=True, slots=True)
class CaseFacts:
    """One case.

    Attributes:
        case_id: its name.
        scan: what is remembered of the user's file.
        ct: (z, y, x) HU, the prepared CT.
        labels: (z, y, x) VerSe labels on the same grid.
        landmarks: as used by stage 3, maybe edited by a person.
        decision: stage 2's own account, the content of landmarks.json.
        mask_report: stage 3's account, the content of masks.json.
        measured: measurements.
        manifests: of the earlier stages, for times, versions and weights; none where not known.
    """

    case_id: str
    scan: ScanRecord
    ct: Volume
    labels: Volume
    landmarks: Landmarks
    decision: Mapping[str, Any] = field(default_factory=dict)
    mask_report: Any = None
    measured: Sequence[MeasuredValue] = ()
    manifests: tuple[StageManifest, ...] = ()

    def measured_of(self, level: str) -> dict[str, MeasuredValue]:
        """Return the measurements of one level by quantity."""
        return {row.quantity: row for row in self.measured if row.level == level}

    @property
    def doubts(self) -> tuple[str, ...]:
        """Why stage 2 wants a person to look; none once a person has changed what it decided."""
        return () if self.edits() else tuple(self.decision.get("reasons", ()))

    def edits(self) -> list[str]:
        """Say what a person changed in landmarks.csv, one phrase per vertebra, head to foot."""
        decided = self.decision.get("landmarks")
        if decided is None:
            return []
        phrases = []
        for vertebra in Vertebra:
            before, now = decided.get(vertebra.name), self.landmarks.get(vertebra)
            if before is None and now is not None:
                phrases.append(f"{vertebra.name} added")
            elif before is not None and now is None:
                phrases.append(f"{vertebra.name} removed")
            elif before is not None and now is not None:
                gap_mm = math.dist(before["position_mm"], now.position_mm)
                phrases += [f"{vertebra.name} moved by {gap_mm:.1f} mm"] * (gap_mm > MOVED_MM)
        return phrases


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
