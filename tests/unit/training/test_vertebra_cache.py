"""Vertebrae are read when they are drawn; what is kept stays within bounds."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from payerseg.domain.grid import Grid
from payerseg.domain.volume import Volume
from payerseg.errors import DatasetError
from payerseg.training.examples import PackedVertebra
from payerseg.training.pack_format import PackIndex, VertebraCache, VertebraLabel, read_vertebra
from payerseg.training.recipe import STAGE3

SIZE = 3000
"""Bytes of one item of `items_of`: 1000 voxels of int16 and uint8."""


def items_of(count: int) -> list[PackedVertebra]:
    ct = Volume(np.zeros((10, 10, 10), np.int16), Grid((10, 10, 10), (1.0, 1.0, 1.0)))
    labels = np.zeros((10, 10, 10), np.uint8)
    return [
        PackedVertebra(f"item{k}", ct, labels, 20, np.zeros(3), region=3, group="g")
        for k in range(count)
    ]


class Counted:
    """Reads items and notes which."""

    def __init__(self, count: int, memory_bytes: int) -> None:
        self.items, self.reads = items_of(count), []
        labels = [VertebraLabel(i.group, i.region) for i in self.items]
        self.vertebrae = VertebraCache(labels, self.read, memory_bytes)

    def read(self, number: int) -> PackedVertebra:
        self.reads.append(number)
        return self.items[number]


def test_what_was_used_last_is_not_read_again() -> None:
    counted = Counted(4, memory_bytes=2 * SIZE)
    for number in (0, 1, 0, 2, 0, 1):
        assert counted.vertebrae[number] is counted.items[number]
    # 2 pushed out 1, which was used before 0
    assert counted.reads == [0, 1, 2, 1]


def test_nothing_is_kept_that_does_not_fit() -> None:
    counted = Counted(2, memory_bytes=SIZE - 1)
    for number in (0, 0, 1):
        assert counted.vertebrae[number] is counted.items[number]
    assert counted.reads == [0, 0, 1]


def test_threads_may_draw_from_it() -> None:
    counted = Counted(8, memory_bytes=3 * SIZE)
    wanted = np.random.default_rng(0).integers(0, 8, 400).tolist()
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(counted.vertebrae.__getitem__, wanted))
    assert [item.name for item in found] == [f"item{k}" for k in wanted]


def test_a_pack_is_labelled_without_being_read(tiny_pack) -> None:
    items = PackIndex.read(tiny_pack).of(STAGE3)
    vertebrae = VertebraCache.of_pack(tiny_pack, items)
    assert len(vertebrae) == len(items)
    for number, item in enumerate(items):
        full = read_vertebra(tiny_pack, item)
        assert vertebrae.labels[number] == VertebraLabel(full.group, full.region)
        np.testing.assert_array_equal(vertebrae[number].labels, full.labels)


def test_a_missing_item_is_named_at_once(tiny_pack, tmp_path) -> None:
    items = PackIndex.read(tiny_pack).of(STAGE3)
    with pytest.raises(DatasetError, match=items[0].name):
        VertebraCache.of_pack(tmp_path, items)
