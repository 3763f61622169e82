"""What is known of spines before looking: which vertebra follows which, how far, in which direction.

Centres are body centres; C1 is the centre of the dens at the height of C1's anterior arch, about 22 mm
above C2 (VerSe 2020 puts it 17 mm above, so tables of both kinds must not be mixed).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from payerseg.config.model_card import PRIOR_FILE
from payerseg.domain.landmarks import Point
from payerseg.domain.vertebra import Vertebra
from payerseg.errors import BundleError

PRIOR_FORMAT = 1
DEFAULT_PRIOR_FILE = Path(__file__).with_name("spine_prior.json")
NO_L5_PROBABILITY = 0.02


@dataclass(frozen=True, slots=True)
class PriorEdge:
    """One vertebra and one that may follow it.

    Attributes:
        upper, lower: the two.
        unit_xyz: direction from the lower to the upper centre, LPS, length 1.
        distance_mm: mean distance of the centres.
        sd_mm: standard deviation of that distance.
        probability: that `lower` follows, given `upper` and that something follows.
        n: how many pairs were measured.
    """

    upper: Vertebra
    lower: Vertebra
    unit_xyz: Point
    distance_mm: float
    sd_mm: float
    probability: float = 1.0
    n: int = 0


@dataclass(frozen=True, slots=True)
class SpinePrior:
    """All edges, head to foot, and how often the last one is left out."""

    edges: tuple[PriorEdge, ...]
    no_l5_probability: float = NO_L5_PROBABILITY
    source: str = ""

    def followers(self, upper: Vertebra) -> tuple[PriorEdge, ...]:
        """Return the edges that leave `upper` downwards."""
        return tuple(edge for edge in self.edges if edge.upper is upper)

    @classmethod
    def default(cls) -> SpinePrior:
        """Return the prior that is shipped (its `source` says what it was measured on)."""
        return cls.read(DEFAULT_PRIOR_FILE)

    @classmethod
    def of_bundle(cls, folder: Path) -> SpinePrior:
        """Return the prior that lies beside weights, or the shipped one where none does.

        Raises:
            BundleError: the file is damaged or of another format.
        """
        path = folder / PRIOR_FILE
        return cls.read(path) if path.is_file() else cls.default()

    @classmethod
    def read(cls, path: Path) -> SpinePrior:
        """Read a prior from JSON.

        Raises:
            BundleError: the file is missing, damaged or of another format.
        """
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content["format"] != PRIOR_FORMAT:
                msg = f"spine prior {path} has format {content['format']}; expected {PRIOR_FORMAT}"
                raise BundleError(msg)
            edges = tuple(_edge_from(item) for item in content["edges"])
            return cls(edges, float(content["no_l5_probability"]), content["source"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            msg = f"spine prior {path} cannot be read ({error}); restore the file or refit it"
            raise BundleError(msg) from error


def _edge_from(item: Mapping) -> PriorEdge:
    unit = tuple(float(v) for v in item["unit_xyz"])
    names = {"upper": Vertebra[item["upper"]], "lower": Vertebra[item["lower"]], "unit_xyz": unit}
    return PriorEdge(**(dict(item) | names))
