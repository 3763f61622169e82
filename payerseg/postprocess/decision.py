"""What a decoder decided, how sure it is, and what else it could have been."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from payerseg.domain.landmarks import Landmarks


@dataclass(frozen=True, slots=True)
class Alternative:
    """Another labelling of the same places.

    Attributes:
        labels: names of its vertebrae, head to foot (found and bridged).
        probability: of the name that it gives to the least certain place, 0..1.
        margin: nats by which the decision leads.
        change: in words, what differs.
    """

    labels: tuple[str, ...]
    probability: float
    margin: float
    change: str


@dataclass(frozen=True, slots=True)
class SpineDecision:
    """The vertebrae of one scan.

    Attributes:
        landmarks: the result; scores are probabilities that the name is right.
        level_margin: nats between this labelling and the best one that names any of the same places
            otherwise; infinity where there is none (or the decoder does not weigh any).
        level_probability: probability that all names are right.
        alternatives: the best other labellings, best first.
        level_set: labellings ("T6-T9") with their probability, the chosen one first; the right one is
            among them as often as the weights' card was fitted for.
        anchors: what fixes the level, in plain sentences: ribs, dens, sacrum.
        reasons: plain sentences why a person should look; empty = none.
        remarks: plain sentences that are worth knowing and ask for nobody.
        scale: size relative to the mean adult that fits best.
        mirrored: whether the spine's curve fits better with front and back exchanged.
    """

    landmarks: Landmarks
    level_margin: float = float("inf")
    level_probability: float = 1.0
    alternatives: tuple[Alternative, ...] = ()
    level_set: Mapping[str, float] = field(default_factory=dict)
    anchors: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    scale: float = 1.0
    mirrored: bool = False

    @property
    def needs_review(self) -> bool:
        """Whether a person should look before the names are trusted."""
        return bool(self.reasons)

    def summary(self) -> dict[str, Any]:
        """Return everything but the landmarks as plain JSON values (an infinite margin is None)."""
        finite = self.level_margin != float("inf")
        return {
            "needs_review": self.needs_review,
            "reasons": list(self.reasons),
            "remarks": list(self.remarks),
            "level_margin": self.level_margin if finite else None,
            "level_probability": self.level_probability,
            "level_set": {name: round(share, 4) for name, share in self.level_set.items()},
            "anchors": list(self.anchors),
            "scale": self.scale,
            "mirrored": self.mirrored,
            "alternatives": [
                asdict(item) | {"labels": list(item.labels)} for item in self.alternatives
            ],
        }
