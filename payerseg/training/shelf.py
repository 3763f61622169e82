"""Packed vertebrae that are read when they are drawn, so that a pack may be larger than memory."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from payerseg.training.examples import PackedVertebra
from payerseg.training.pack_format import PackItem, read_region, read_vertebra

MEMORY_BYTES = 3 * 1024**3
"""What stays in memory of what was read; an item of the default size takes 9 MB."""


@dataclass(frozen=True, slots=True)
class ShelvedVertebra:
    """What must be known of a vertebra before it is read: its group of draws and its region."""

    group: str
    region: int


class VertebraShelf:
    """A sequence of vertebrae; those used last stay in memory.

    Args:
        labels: of every item.
        read: reads item number i; called from several threads.
        memory_bytes: of kept items.
    """

    def __init__(
        self,
        labels: Sequence[ShelvedVertebra],
        read: Callable[[int], PackedVertebra],
        memory_bytes: int = MEMORY_BYTES,
    ) -> None:
        self.labels = tuple(labels)
        self._read = read
        self._limit, self._used = memory_bytes, 0
        self._kept: OrderedDict[int, PackedVertebra] = OrderedDict()
        self._lock = threading.Lock()

    @classmethod
    def of_pack(
        cls, pack: Path, items: Sequence[PackItem], memory_bytes: int = MEMORY_BYTES
    ) -> VertebraShelf:
        """Return a shelf over a pack's files; only their level is read now."""
        labels = [ShelvedVertebra(item.group, read_region(pack, item)) for item in items]
        return cls(labels, lambda number: read_vertebra(pack, items[number]), memory_bytes)

    def __len__(self) -> int:
        """Return the number of vertebrae."""
        return len(self.labels)

    def __getitem__(self, number: int) -> PackedVertebra:
        """Return a vertebra, from memory or from its file."""
        with self._lock:
            if number in self._kept:
                self._kept.move_to_end(number)
                return self._kept[number]
        item = self._read(number)
        size = _size_of(item)
        with self._lock:
            if size <= self._limit and number not in self._kept:
                while self._used + size > self._limit:
                    self._used -= _size_of(self._kept.popitem(last=False)[1])
                self._kept[number] = item
                self._used += size
        return item


def _size_of(item: PackedVertebra) -> int:
    return item.hu.nbytes + item.labels.nbytes
