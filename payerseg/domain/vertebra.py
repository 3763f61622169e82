"""The one table of vertebrae: name, VerSe label, network channel, anatomical order."""

from __future__ import annotations

from enum import Enum, StrEnum

N_CHANNELS = 26
SACRUM_LABEL = 26
COCCYX_LABEL = 27


class Region(StrEnum):
    """Part of the spine."""

    CERVICAL = "cervical"
    THORACIC = "thoracic"
    LUMBAR = "lumbar"


_REGIONS = {"C": Region.CERVICAL, "T": Region.THORACIC, "L": Region.LUMBAR}


class Vertebra(Enum):
    """A vertebra; iterating the enum goes from head to foot (T13 between T12 and L1).

    The value is the VerSe label: C1..C7 = 1..7, T1..T12 = 8..19, L1..L6 = 20..25, T13 = 28.
    """

    C1 = 1
    C2 = 2
    C3 = 3
    C4 = 4
    C5 = 5
    C6 = 6
    C7 = 7
    T1 = 8
    T2 = 9
    T3 = 10
    T4 = 11
    T5 = 12
    T6 = 13
    T7 = 14
    T8 = 15
    T9 = 16
    T10 = 17
    T11 = 18
    T12 = 19
    T13 = 28
    L1 = 20
    L2 = 21
    L3 = 22
    L4 = 23
    L5 = 24
    L6 = 25

    @property
    def verse_label(self) -> int:
        """The value in label maps."""
        return self.value

    @property
    def channel(self) -> int:
        """The network channel, 0..25; T13 is the last."""
        return 25 if self is Vertebra.T13 else self.value - 1

    @property
    def rank(self) -> int:
        """The place from head to foot, 0..25."""
        return _RANKS[self]

    @property
    def region(self) -> Region:
        """Cervical, thoracic or lumbar."""
        return _REGIONS[self.name[0]]

    @classmethod
    def from_channel(cls, channel: int) -> Vertebra:
        """Return the vertebra of a network channel 0..25."""
        return cls(28 if channel == 25 else channel + 1)

    def __lt__(self, other: Vertebra) -> bool:
        """Order from head to foot."""
        return self.rank < other.rank


_RANKS = {vertebra: rank for rank, vertebra in enumerate(Vertebra)}
