"""What a training said, after kills and for every backend."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from payerseg.errors import ArtifactError
from payerseg.training.history import BestWeights, History, read_best


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
    assert read_best(tmp_path).step == 20


def test_best_is_remembered_but_not_from_the_future(tmp_path: Path) -> None:
    history = History(tmp_path, first_step=0, tensorboard=False)
    assert history.is_best(10, 0.5, {"a": 1.0})
    assert not history.is_best(20, 0.4, {"a": 1.0})
    assert not history.is_best(20, float("nan"), {})
    assert History(tmp_path, first_step=20, tensorboard=False).best == 0.5
    assert History(tmp_path, first_step=5, tensorboard=False).best == -np.inf
    assert read_best(tmp_path) == BestWeights(10, 0.5, {"a": 1.0})
    assert read_best(tmp_path / "nowhere") is None


def test_a_damaged_record_of_the_best_is_named(tmp_path: Path) -> None:
    history = History(tmp_path, first_step=0, tensorboard=False)
    assert history.is_best(10, 0.5, {"a": 1.0, "b": float("nan")})
    assert read_best(tmp_path).figures == {"a": 1.0}
    (tmp_path / "best.json").write_text('{"step": "10", "score": 0.5, "figures": {}}')
    with pytest.raises(ArtifactError, match=r"best\.json .*`int`, got `str` - at `\$\.step`"):
        History(tmp_path, first_step=20, tensorboard=False)


def events_of(folder: Path) -> list[Any]:
    tf = pytest.importorskip("tensorflow")
    files = sorted((folder / "tensorboard").glob("events.out.tfevents.*"))
    return [event for file in files for event in tf.compat.v1.train.summary_iterator(str(file))]


def test_tensorflow_reads_the_events_of_a_training_that_was_killed(tmp_path: Path) -> None:
    tf = pytest.importorskip("tensorflow")
    history = History(tmp_path, first_step=0, tensorboard=True)
    history.report(300, 1.0, loss=0.25, rate=1e-3)
    picture = np.arange(12, dtype=np.uint8).reshape(3, 4)
    history.pictures(70_000, [("a", picture)])
    history.validation(70_001, 2.0, {"dice": 0.5})
    first, loss, rate, drawn, dice = events_of(tmp_path)  # not closed: a kill asks nobody
    assert first.file_version == "brain.Event:2"
    assert [(e.step, e.summary.value[0].tag) for e in (loss, rate, drawn, dice)] == [
        (300, "loss"), (300, "learning_rate"), (70_000, "val/a"), (70_001, "val/dice"),
    ]  # fmt: skip
    assert (loss.summary.value[0].simple_value, dice.summary.value[0].simple_value) == (0.25, 0.5)
    image = drawn.summary.value[0].image
    assert (image.height, image.width) == (3, 4)
    decoded = tf.io.decode_png(image.encoded_image_string).numpy()
    np.testing.assert_array_equal(decoded[..., 0], picture)
    history.close()


def test_no_events_unless_asked_for(tmp_path: Path) -> None:
    history = History(tmp_path, first_step=0, tensorboard=False)
    history.report(1, 1.0, 0.5, 1e-3)
    history.close()
    assert not (tmp_path / "tensorboard").exists()
