"""One row per vertebra: what the page's table, findings.json and the cohort page tell of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from payerseg.domain.colors import hex_color_of
from payerseg.domain.vertebra import Vertebra
from payerseg.report.case_facts import CaseFacts
from payerseg.report.checks import distances_mm
from payerseg.report.findings import Finding
from payerseg.report.mask_facts import MaskFacts

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
                heights_mm=tuple(values.get(name) for name in HEIGHTS),
                core_hu=values.get("core_hu_mean"),
                next_mm=round(next_mm[vertebra], 2) if vertebra in next_mm else None,
                flags=mark.flags if mark else (),
                findings=tuple(told),
            )
        )
    return tuple(rows)
