"""Gzip streams: the same bytes every time, readable by everybody."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from payerseg.errors import UnreadableScan
from payerseg.imaging import compression
from payerseg.imaging.compression import is_gzip, read_exactly, read_head, write_bytes


def content(n_bytes=3_500_000):
    rng = np.random.default_rng(0)
    return np.repeat(rng.integers(0, 40, n_bytes // 4 + 1).astype(np.uint8), 4)[:n_bytes].tobytes()


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_bytes_do_not_depend_on_threads_or_time(tmp_path, monkeypatch, threads):
    write_bytes(tmp_path / "a.gz", [b"head", memoryview(content())], compress=True)
    monkeypatch.setattr(compression, "_WRITER_THREADS", threads)
    write_bytes(tmp_path / "other name.gz", [b"head", memoryview(content())], compress=True)
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "other name.gz").read_bytes()


def test_the_standard_library_reads_it(tmp_path):
    write_bytes(tmp_path / "a.gz", [b"head", memoryview(content())], compress=True)
    assert gzip.decompress((tmp_path / "a.gz").read_bytes()) == b"head" + content()
    assert is_gzip(tmp_path / "a.gz")
    assert (tmp_path / "a.gz").read_bytes()[4:8] == bytes(4), "gzip mtime"


@pytest.mark.parametrize("compress", [True, False])
def test_reads_a_window(tmp_path, compress):
    write_bytes(tmp_path / "a", [content()], compress=compress)
    window, surplus = read_exactly(tmp_path / "a", 1000, 3_000_000)
    assert window.tobytes() == content()[1000:3_001_000]
    assert surplus == 499_000
    assert window.flags.writeable
    assert read_head(tmp_path / "a", 10) == content()[:10]


def test_too_short(tmp_path):
    write_bytes(tmp_path / "a", [content(1000)], compress=False)
    with pytest.raises(UnreadableScan, match="promises 1001"):
        read_exactly(tmp_path / "a", 1, 1000)
    write_bytes(tmp_path / "b", [content(10_000)], compress=True)
    with pytest.raises(UnreadableScan, match="truncated"):
        read_exactly(tmp_path / "b", 0, 20_000)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("compress", [True, False])
def test_a_full_disk_is_an_error(compress):
    with pytest.raises(OSError, match="No space left"):
        write_bytes(Path("/dev/full"), [content()], compress=compress)


def test_wrong_checksum(tmp_path):
    write_bytes(tmp_path / "a", [content(10_000)], compress=True)
    damaged = bytearray((tmp_path / "a").read_bytes())
    damaged[-6] ^= 1
    (tmp_path / "a").write_bytes(bytes(damaged))
    with pytest.raises(UnreadableScan, match="damaged"):
        read_exactly(tmp_path / "a", 0, 10_000)


def test_rubbish_behind_a_sound_stream_is_counted_and_a_wrong_checksum_refused(tmp_path):
    write_bytes(tmp_path / "a.gz", [content()], compress=True)
    sound = (tmp_path / "a.gz").read_bytes()
    (tmp_path / "a.gz").write_bytes(sound + b"\7\10rubbish")
    found, surplus = read_exactly(tmp_path / "a.gz", 1000, len(content()) - 1000)
    assert found.tobytes() == content()[1000:]
    assert surplus == 9
    with pytest.raises(UnreadableScan, match="breaks off"):
        read_exactly(tmp_path / "a.gz", 1000, len(content()))
    wrong = sound[:-8] + bytes([sound[-8] ^ 1]) + sound[-7:]
    (tmp_path / "a.gz").write_bytes(wrong + b"\7\10rubbish")
    with pytest.raises(UnreadableScan, match="damaged"):
        read_exactly(tmp_path / "a.gz", 1000, len(content()) - 1000)
