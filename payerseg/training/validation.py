"""How good is a network now: measured on exact network inputs of validation items.

Quick figures that choose the best weights; the figures to quote come from `payerseg evaluate`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.special import log_softmax

from payerseg.config.model_card import ModelCard
from payerseg.domain.levels import LEVELS as LEVEL_NAMES
from payerseg.domain.levels import RIBBED, LevelAnswer
from payerseg.inference.level_views import read_levels
from payerseg.training.level_examples import LEFT, RANK, RIGHT, facts_of, points_of
from payerseg.training.pack_format import ValInput
from payerseg.training.recipe import LEVELS, STAGE1, STAGE2

Forward = Callable[[np.ndarray], np.ndarray]
"""(b, z, y, x, c) to (b, z, y, x, k); `inference.device.compile_forward` makes one."""
HIT_MM = 20.0
"""As in the field's identification rate."""
CANDIDATE_THRESHOLD = 0.05
BOX_THRESHOLD = 0.3
_CROWDED_MM = 60.0


@dataclass(frozen=True, slots=True)
class Scores:
    """What a validation found.

    Attributes:
        figures: name → value, for the history.
        best_by: the one that chooses the best weights; higher is better.
    """

    figures: dict[str, float]
    best_by: str

    @property
    def value(self) -> float:
        """The figure that chooses."""
        return self.figures[self.best_by]


def validate(forward: Forward, card: ModelCard, inputs: Sequence[ValInput]) -> Scores:
    """Score a network on validation items.

    Args:
        forward: the network with the weights to be judged.
        card: says what its output means.
        inputs: of the card's stage; at least one.
    """
    if card.stage == STAGE1:
        return _spine_scores(forward, card, inputs)
    if card.stage == LEVELS:
        return _level_scores(forward, card, inputs)
    if card.stage == STAGE2:
        return _landmark_scores(forward, inputs)
    return _mask_scores(forward, card, inputs)


def predict(forward: Forward, item: ValInput) -> np.ndarray:
    """Return the network's answer to one item, (z, y, x, channel) float32."""
    return np.asarray(forward(item.x[None])[0], np.float32)


def _spine_scores(forward: Forward, card: ModelCard, inputs: Sequence[ValInput]) -> Scores:
    """Marks inside the box that stage 1 would draw, and how much longer than needed the box is."""
    inside, marked, excess = 0, 0, []
    for item in inputs:
        heat = predict(forward, item)[..., 0]
        if card.output == "logit":
            heat = 1 / (1 + np.exp(-heat))
        index = item.mark_indices()
        low, high = _main_box(heat)
        here = np.all((index >= low - 1) & (index <= high + 1), axis=1)
        inside, marked = inside + int(here.sum()), marked + len(here)
        needed = np.ptp(index, axis=0) + 2 * _CROWDED_MM / item.spacing_mm
        excess.append(float(np.mean(np.maximum(0, (high - low) / needed - 1))))
    share = inside / max(marked, 1)
    figures = {"marks_in_box": share, "box_excess": float(np.mean(excess))}
    figures["score"] = share - 0.05 * min(1.0, figures["box_excess"])
    return Scores(figures, "score")


def _main_box(heat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return first and last index (z, y, x) of the largest part above a share of the peak."""
    parts, count = ndimage.label(heat > BOX_THRESHOLD * max(float(heat.max()), 1e-6))
    if not count:
        return np.zeros(3), np.zeros(3)
    largest = int(np.argmax(np.bincount(parts.ravel())[1:]))
    box = ndimage.find_objects(parts)[largest]
    return np.array([s.start for s in box]), np.array([s.stop - 1 for s in box])


def _landmark_scores(forward: Forward, inputs: Sequence[ValInput]) -> Scores:
    """Marks whose channel peaks within 20 mm, by the channel's maximum alone (no spine graph)."""
    hits, marked, distances, false = 0, 0, [], 0
    for item in inputs:
        heat = predict(forward, item)
        peaks = _peaks(heat)
        channels = item.marks[:, 0].astype(int)
        for channel, index in zip(channels, item.mark_indices(), strict=True):
            if channel >= heat.shape[-1]:
                continue
            marked += 1
            value, place = peaks[channel]
            distance = float(np.linalg.norm((place - index) * item.spacing_mm))
            if value > CANDIDATE_THRESHOLD and distance <= HIT_MM:
                hits += 1
                distances.append(distance)
        known = set(channels.tolist()) | set(item.partial)
        false += sum(
            value > CANDIDATE_THRESHOLD for c, (value, _) in enumerate(peaks) if c not in known
        )
    share = hits / max(marked, 1)
    figures = {
        "id_rate": share,
        "mean_mm": float(np.mean(distances)) if distances else HIT_MM,
        "false_per_scan": false / len(inputs),
    }
    # the mean distance decides between weights that name equally well
    figures["score"] = share - 0.002 * figures["mean_mm"]
    return Scores(figures, "score")


def _level_scores(forward: Forward, card: ModelCard, inputs: Sequence[ValInput]) -> Scores:
    """Levels and ribs at the marked places, and scans whose ribs and levels fit one naming best."""
    levels, ribs, nats, chains = [], [], [], []
    for item in inputs:
        scan = item.scan
        if scan is None:
            continue
        facts, points = facts_of(scan), points_of(scan)
        answer = LevelAnswer(
            read_levels(forward, card, scan.hu, scan.origin_mm, scan.spacing_mm, points)
        )
        ranks = facts[:, RANK].astype(int)
        logs = log_softmax(answer.level, axis=1)
        levels += (logs.argmax(axis=1) == ranks).tolist()
        nats += (-logs[np.arange(len(ranks)), ranks]).tolist()
        for column, side in ((LEFT, answer.left_rib), (RIGHT, answer.right_rib)):
            known = facts[:, column] >= 0
            ribs += ((side[known].argmax(axis=1) > 0) == (facts[known, column] > 0)).tolist()
        chains.append(chain_shift(ranks, answer) == 0)
    figures = {
        "scans": float(np.mean(chains)),
        "levels": float(np.mean(levels)),
        "ribs": float(np.mean(ribs)),
        "nats": float(np.mean(nats)),
    }
    figures["score"] = figures["scans"] + figures["ribs"] - 0.1 * figures["nats"]
    return Scores(figures, "score")


def chain_shift(ranks: np.ndarray, answer: LevelAnswer, observations: float = 1.0) -> int:
    """Return by how many levels the best naming of a gapless chain of places is off.

    Args:
        ranks: true ranks of `domain.levels.LEVELS`, head to foot, one place each.
        answer: of the level network at the places.
        observations: how many independent ones all levels together count as; ribs count one by one.
    """
    usual = [r for r in range(len(LEVEL_NAMES)) if LEVEL_NAMES[r] not in ("T13", "L6")]
    where = np.array([usual.index(r) if r in usual else -1 for r in ranks])
    if np.any(where < 0):
        return 0
    level = log_softmax(answer.level, axis=1)
    rib = [log_softmax(side, axis=1) for side in (answer.left_rib, answer.right_rib)]
    carries = [np.logaddexp(side[:, 1], side[:, 2]) for side in rib]
    scores = {}
    for shift in range(-where.min(), len(usual) - where.max()):
        named = np.array([usual[w + shift] for w in where])
        ribbed = np.isin(named, RIBBED)
        total = min(len(ranks), observations) * level[np.arange(len(ranks)), named].mean()
        for yes, side in zip(carries, rib, strict=True):
            total += 0.5 * np.where(ribbed, yes, side[:, 0]).clip(-8).sum()
        scores[shift] = total
    return max(scores, key=lambda shift: scores[shift])


def _peaks(heat: np.ndarray) -> list[tuple[float, np.ndarray]]:
    """Return value and index (z, y, x) of each channel's maximum."""
    flat = heat.reshape(-1, heat.shape[-1])
    where = flat.argmax(axis=0)
    places = np.stack(np.unravel_index(where, heat.shape[:3]), axis=1)
    return [(float(flat[w, c]), places[c]) for c, w in enumerate(where)]


def _mask_scores(forward: Forward, card: ModelCard, inputs: Sequence[ValInput]) -> Scores:
    """Dice of each vertebra in its crop; mean, worst level, and per part of the spine."""
    dice = {item.name: _dice(_mask_of(predict(forward, item), card, item), item) for item in inputs}
    by_label: dict[int, list[float]] = {}
    for item in inputs:
        by_label.setdefault(item.label, []).append(dice[item.name])
    levels = [float(np.mean(values)) for values in by_label.values()]
    figures = {"dice": float(np.mean(list(dice.values()))), "worst_level": min(levels)}
    figures["score"] = figures["dice"]
    return Scores(figures, "score")


def _mask_of(answer: np.ndarray, card: ModelCard, item: ValInput) -> np.ndarray:
    if card.output == "label_probability":
        wanted = card.channels.index(item.label) if item.label in card.channels else -1
        return answer.argmax(axis=-1) == wanted
    threshold = 0.0 if card.output == "logit" else 0.5
    return answer[..., 0] > threshold


def _dice(mask: np.ndarray, item: ValInput) -> float:
    truth = np.zeros_like(mask) if item.mask is None else item.mask > 0
    total = int(mask.sum()) + int(truth.sum())
    return 2 * int((mask & truth).sum()) / total if total else 1.0


def picture_of(answer: np.ndarray, item: ValInput) -> np.ndarray:
    """Return a grey picture (row, column) uint8: sagittal slice of the image beside the answer."""
    column = round(float(np.median(item.mark_indices()[:, 2]))) if len(item.marks) else 0
    column = int(np.clip(column, 0, item.x.shape[2] - 1))
    image = item.x[::-1, :, column, 0]
    heat = answer[..., 1:].max(axis=-1) if answer.shape[-1] > 1 else answer[..., 0]
    heat = heat[::-1].max(axis=2)
    return np.concatenate([_grey(image), _grey(heat)], axis=1)


def _grey(picture: np.ndarray) -> np.ndarray:
    low, high = float(picture.min()), float(picture.max())
    scaled = (picture - low) / (high - low) if high > low else picture * 0
    return np.rint(255 * scaled).astype(np.uint8)
