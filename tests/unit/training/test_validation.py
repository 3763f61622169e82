"""The figures that choose the best weights."""

import numpy as np
import pytest

from payerseg.config.model_card import ModelCard, SamplingSpec, UNetSpec
from payerseg.training.pack_format import ValInput
from payerseg.training.recipe import STAGE1, STAGE2, STAGE3
from payerseg.training.validation import picture_of, validate

SHAPE = (20, 18, 16)
NETWORK, SAMPLING = UNetSpec(widths=(2,)), SamplingSpec(spacing_mm=3.0)


def item(marks: list, *, mask: np.ndarray | None = None, label: int = 0) -> ValInput:
    return ValInput(
        name="a",
        x=np.zeros((*SHAPE, 1), np.float32),
        origin_mm=np.zeros(3),
        spacing_mm=3.0,
        marks=np.array(marks, float).reshape(-1, 4),
        partial=(3,),
        mask=mask,
        label=label,
    )


def answering(answer: np.ndarray):
    return lambda x: answer[None]


def test_landmarks() -> None:
    heat = np.zeros((*SHAPE, 5), np.float32)
    heat[10, 9, 8, 0] = 0.9  # right, 3 mm away
    heat[2, 2, 2, 1] = 0.9  # far away
    heat[5, 5, 5, 3] = 0.9  # partial: neither hit nor false
    heat[6, 6, 6, 4] = 0.9  # invented
    marks = [[0, 24, 27, 33], [1, 24, 27, 42], [2, 24, 27, 51], [25, 1, 1, 1]]
    card = ModelCard(STAGE2, NETWORK, SAMPLING)
    scores = validate(answering(heat), card, [item(marks)])
    assert scores.figures["id_rate"] == pytest.approx(1 / 3)
    assert scores.figures["mean_mm"] == pytest.approx(3)
    assert scores.figures["false_per_scan"] == 1
    assert scores.value == scores.figures["score"]


@pytest.mark.parametrize(("output", "low", "high"), [("heatmap", 0.0, 1.0), ("logit", -20, 20)])
def test_spine_box(output: str, low: float, high: float) -> None:
    heat = np.full((*SHAPE, 1), low, np.float32)
    heat[4:15, 8:11, 7:10] = high
    marks = [[5, 24, 27, 15], [6, 24, 27, 42], [7, 24, 27, 57]]
    card = ModelCard(STAGE1, NETWORK, SAMPLING, output=output)  # type: ignore[arg-type]
    scores = validate(answering(heat), card, [item(marks)])
    assert scores.figures["marks_in_box"] == pytest.approx(2 / 3)  # the last lies below the box
    assert scores.figures["box_excess"] == 0
    nothing = validate(answering(heat * 0 + low), card, [item(marks)])
    assert nothing.value < scores.value or output == "logit"


@pytest.mark.parametrize("output", ["logit", "probability", "label_probability"])
def test_masks(output: str) -> None:
    truth = np.zeros(SHAPE, np.uint8)
    truth[5:10, 5:10, 5:10] = 1
    found = np.zeros(SHAPE, bool)
    found[5:10, 5:10, 5:15] = True
    answer = np.where(found, 0.9, 0.1)[..., None]
    if output == "logit":
        answer = np.where(found, 3.0, -3.0)[..., None]
    if output == "label_probability":
        answer = np.concatenate([1 - answer, answer * 0, answer], axis=-1)
    card = ModelCard(STAGE3, NETWORK, SAMPLING, output=output, channels=(0, 19, 20))  # type: ignore[arg-type]
    scores = validate(answering(answer), card, [item([[19, 9, 9, 9]], mask=truth, label=20)])
    assert scores.figures["dice"] == pytest.approx(2 * 125 / (125 + 250))
    assert scores.figures["worst_level"] == scores.value


def test_pictures_are_grey_bytes() -> None:
    answer = np.random.default_rng(0).random((*SHAPE, 3)).astype(np.float32)
    picture = picture_of(answer, item([[5, 24, 27, 15]]))
    assert picture.dtype == np.uint8
    assert picture.shape == (20, 36)
    assert picture.max() == 255
