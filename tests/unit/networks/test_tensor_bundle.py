"""Indexes made to harm end as one error, soon; TensorFlow's own reader aborts on half of them."""

import struct

import numpy as np
import pytest

from payerseg.errors import BundleError
from payerseg.networks import tensor_bundle
from payerseg.networks.tensor_bundle import TABLE_MAGIC, TensorBundle, crc32c, mask_crc

VALUES = np.arange(6, dtype="<f4")
NAME = b"model/x"


def varint(value):
    out = bytearray()
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def entry(dtype=1, shape=(2, 3), shard=0, offset=0, size=24, crc=None):
    dims = [b"\x08" + varint(n % 2**64) for n in shape]
    dims = b"".join(b"\x12" + varint(len(d)) + d for d in dims)
    numbers = [b"\x08", dtype, b"\x18", shard, b"\x20", offset, b"\x28", size]
    head = b"".join(n if isinstance(n, bytes) else varint(n % 2**64) for n in numbers)
    crc = mask_crc(crc32c(VALUES.tobytes())) if crc is None else crc
    return head + b"\x12" + varint(len(dims)) + dims + b"\x35" + struct.pack("<I", crc)


def block(rows):
    """(key, value) or (shared, key, value) rows as a table's block."""
    out = b""
    for row in rows:
        shared, key, value = row if len(row) == 3 else (0, *row)
        out += varint(shared) + varint(len(key)) + varint(len(value)) + key + value
    out += struct.pack("<II", 0, 1)
    return out, out + b"\0" + struct.pack("<I", mask_crc(crc32c(out + b"\0")))


def table(rows, n_handles=1):
    data, stored = block(rows)
    index, index_stored = block([(b"z", varint(0) + varint(len(data)))] * n_handles)
    footer = varint(0) * 2 + varint(len(stored)) + varint(len(index))
    return stored + index_stored + footer.ljust(40, b"\0") + struct.pack("<Q", TABLE_MAGIC)


def one(value, header=b"\x08\x01"):
    return table([(b"", header), (NAME, value)])


@pytest.fixture
def read(tmp_path):
    def opened(index):
        (tmp_path / "c.index").write_bytes(index)
        (tmp_path / "c.data-00000-of-00001").write_bytes(VALUES.tobytes())
        return TensorBundle(tmp_path / "c").read(NAME.decode())

    return opened


def test_a_plain_one(read):
    np.testing.assert_array_equal(read(one(entry())), VALUES.reshape(2, 3))


HOSTILE = {
    "text": b"hello" * 100,
    "negative size": one(entry(shape=(-5, 3))),
    "overflowing size": one(entry(shape=(2**62, 2**62, 4))),
    "huge": one(entry(shape=(2**40, 2**20), size=2**62)),
    "300 dimensions": one(entry(shape=(1,) * 300, size=4)),
    "unknown type": one(entry(dtype=99)),
    "strings": one(entry(dtype=7, shape=(2**30,))),
    "variant": one(entry(dtype=21)),
    "far away": one(entry(offset=2**64 - 5)),
    "another shard": one(entry(shard=2**63)),
    "other values": one(entry(crc=1)),
    "no protocol buffer": one(b"\xff" * 30),
    "an endless number": one(b"\x08" + b"\xff" * 200_000),
    "a number for a shape": one(b"\x08\x01\x10\x05"),
    "empty entry": one(b""),
    "millions of shards": one(entry(), header=b"\x08" + varint(2**40)),
    "no header": table([(NAME, entry())]),
    "one block 50,000 times": table([(b"", b""), (NAME, bytes(50_000))], n_handles=50_000),
    "names that grow": table([(b"", b"")] + [(2**20, b"a", b"")] * 50_000),
    "beyond the end": struct.pack("<20sBBB17xQ", b"", 0x80, 0x80, 1, TABLE_MAGIC),
}


@pytest.mark.timeout(10)
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_index_is_refused_at_once(name, read):
    with pytest.raises(BundleError, match=r"c\.(index|data)|/c"):
        read(HOSTILE[name])


def test_a_huge_index_is_not_read(read, monkeypatch):
    monkeypatch.setattr(tensor_bundle, "MAX_INDEX_BYTES", 1000)
    with pytest.raises(BundleError, match="no index of a network"):
        read(one(entry()) + bytes(1000))
