"""What a training said, after kills and for every backend."""

import json
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest

from payerseg.training.event_file import EventFile, crc32c, grey_png
from payerseg.training.history import History, read_best


def test_rows_after_the_last_checkpoint_are_done_again(tmp_path: Path) -> None:
    history = History(tmp_path, first_step=0, tensorboard=False)
    for step in (10, 20, 30):
        history.report(step, step * 1.5, 1 / step, 1e-3)
    history.validation(30, 46, {"id_rate": 0.5})
    with (tmp_path / "history.csv").open("a") as file:
        file.write("40,60,0.0")  # cut short by a kill
    resumed = History(tmp_path, first_step=20, tensorboard=False)
    assert [row["step"] for row in resumed.rows()] == ["10", "20"]
    assert resumed.seconds == 30
    resumed.validation(30, 45, {"id_rate": 0.25})
    assert json.loads(resumed.rows()[-1]["figures"]) == {"id_rate": 0.25}


def test_of_equal_scores_the_later_is_best(tmp_path: Path) -> None:
    history = History(tmp_path, first_step=0, tensorboard=False)
    assert history.is_best(10, 1.0, {})
    assert history.is_best(20, 1.0, {})
    assert read_best(tmp_path)["step"] == 20


def test_best_is_remembered_but_not_from_the_future(tmp_path: Path) -> None:
    history = History(tmp_path, first_step=0, tensorboard=False)
    assert history.is_best(10, 0.5, {"a": 1.0})
    assert not history.is_best(20, 0.4, {"a": 1.0})
    assert not history.is_best(20, float("nan"), {})
    assert History(tmp_path, first_step=20, tensorboard=False).best == 0.5
    assert History(tmp_path, first_step=5, tensorboard=False).best == -np.inf
    assert read_best(tmp_path) == {"step": 10, "score": 0.5, "figures": {"a": 1.0}}
    assert read_best(tmp_path / "nowhere") is None


def test_checksum_is_castagnolis() -> None:
    assert crc32c(b"123456789") == 0xE3069283


def records(path: Path) -> list[bytes]:
    data, out = path.read_bytes(), []
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        out.append(data[12 : 12 + length])
        stored = struct.unpack("<I", data[12 + length : 16 + length])[0]
        crc = crc32c(out[-1])
        masked = (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF
        assert stored == masked
        data = data[16 + length :]
    return out


def test_event_file_is_whole_after_every_record(tmp_path: Path) -> None:
    events = EventFile(tmp_path)
    events.scalar("loss", 0.25, 300)
    path = next(tmp_path.glob("events*"))
    assert len(records(path)) == 2
    events.image("val/a", np.arange(12, dtype=np.uint8).reshape(3, 4), 301)
    assert b"val/a" in records(path)[2]
    assert struct.pack("<f", 0.25) in records(path)[1]
    events.close()


def test_tensorflow_reads_the_events(tmp_path: Path) -> None:
    tf = pytest.importorskip("tensorflow")
    events = EventFile(tmp_path)
    events.scalar("loss", 0.25, 300)
    picture = np.arange(12, dtype=np.uint8).reshape(3, 4)
    events.image("val/a", picture, 70_000)
    events.close()
    path = str(next(tmp_path.glob("events*")))
    read = list(tf.compat.v1.train.summary_iterator(path))
    assert read[0].file_version == "brain.Event:2"
    assert (read[1].step, read[1].summary.value[0].tag) == (300, "loss")
    assert read[1].summary.value[0].simple_value == 0.25
    image = read[2].summary.value[0].image
    assert (read[2].step, image.height, image.width) == (70_000, 3, 4)
    decoded = tf.io.decode_png(image.encoded_image_string).numpy()
    np.testing.assert_array_equal(decoded[..., 0], picture)


def test_png_is_plain() -> None:
    data = grey_png(np.full((2, 3), 7, np.uint8))
    assert data.startswith(b"\x89PNG")
    start = data.index(b"IDAT") + 4
    assert zlib.decompress(data[start:]).count(7) == 6
