"""From a training's folder to a model bundle: the best weights and how they were made."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

from payerseg import records
from payerseg.config.model_card import ModelCard, Source, TrainingRecord, single_sources
from payerseg.errors import BundleError
from payerseg.networks.bundle import ModelBundle, save
from payerseg.training.history import read_best
from payerseg.training.pack_format import read_arrays
from payerseg.training.session import BEST_WEIGHTS_FILE, RECORD_FILE, FinishedTraining

WeightsType = Literal["float32", "float16"]


def export_bundle(
    training: Path,
    bundle: Path,
    *,
    notes: str = "",
    weights_dtype: WeightsType = "float16",
    average_with: Path | None = None,
) -> ModelCard:
    """Write the best weights of a training as a bundle.

    Args:
        training: folder of one network's training, finished or not.
        bundle: folder to write.
        notes: anything a user of the weights must know.
        weights_dtype: float16 halves the file.
        average_with: bundle whose weights are averaged with the training's, half each: that of
            `--initial_weights`. Between weights that fine-tuning joins lies no barrier, and their mean is
            surer off the training data than either (Wortsman et al., "Robust fine-tuning of zero-shot
            models", CVPR 2022). What was fitted to the bundle (decoder, mask threshold) stays with it.

    Returns:
        The card as written; a README.md beside it names every source and licence.

    Raises:
        BundleError: the folder holds no trained weights, or the bundle to average with is not the one
            that the training began with.
    """
    record = read_record(training)
    card = ModelCard.from_json(records.to_json(record.card), str(training / RECORD_FILE))
    arrays = read_arrays(training / BEST_WEIGHTS_FILE)
    if average_with is not None:
        other = ModelBundle.open(average_with, card.stage)
        begun = record.start.weights_sha256 if record.start else "random weights"
        if other.card.weights_sha256 != begun:
            msg = (
                f"{training} began with weights {begun[:12]}; {average_with} holds "
                f"{other.card.weights_sha256[:12]}, and only the mean with the first makes sense"
            )
            raise BundleError(msg)
        arrays = {name: (array + other.weights[name]) / 2 for name, array in arrays.items()}
        card = replace(card, decoder=other.card.decoder, mask_threshold=other.card.mask_threshold)
        notes = (
            f"The mean with the initial weights; figures are of the new ones alone. {notes}".strip()
        )
    trained = TrainingRecord(
        sources=_sources(record),
        metrics=_metrics(record, training),
        iterations=record.iterations,
        seed=record.seed,
        hardware=record.hardware,
        hours=round(record.seconds / 3600, 2),
        command=str(record.config.get("command", "")),
        notes=" ".join(text for text in (_start(record), notes) if text),
    )
    written = save(arrays, replace(card, training=trained, weights_dtype=weights_dtype), bundle)
    (bundle / "README.md").write_text(card_text(written), encoding="utf-8")
    return written


def read_record(training: Path) -> FinishedTraining:
    """Read a training's record.

    Raises:
        BundleError: there is none, or it is damaged, or no weights.
    """
    remedy = "expected a folder that payerseg train has finished"
    record = records.read(FinishedTraining, training / RECORD_FILE, remedy, BundleError)
    if record is None or not (training / BEST_WEIGHTS_FILE).is_file():
        missing = RECORD_FILE if record is None else BEST_WEIGHTS_FILE
        msg = f"{training} holds no {missing}; {remedy}"
        raise BundleError(msg)
    return record


def card_text(card: ModelCard) -> str:
    """Return a card's training part as Markdown: what people are asked to cite."""
    record = card.training
    lines = [
        f"# Weights of {card.stage} ({card.family})",
        "",
        f"{record.iterations} iterations, {record.hours} h on {record.hardware}; seed {record.seed}.",
        "",
        "| source | licence | cases | note |",
        "|---|---|---|---|",
    ]
    lines += [f"| {s.name} | {s.licence} | {s.items} | {s.note} |" for s in record.sources]
    lines += ["", "| figure | value |", "|---|---|"]
    lines += [f"| {name} | {value:g} |" for name, value in record.metrics.items()]
    if record.notes:
        lines += ["", record.notes]
    return "\n".join(lines) + "\n"


def _sources(record: FinishedTraining) -> tuple[Source, ...]:
    """Return this training's sources, then those that only the initial weights have seen."""
    own = single_sources(record.sources)
    named = {(s.name, s.licence) for s in own}
    earlier = single_sources(record.start.sources if record.start else ())
    return (*own, *(s for s in earlier if (s.name, s.licence) not in named))


def _start(record: FinishedTraining) -> str:
    start = record.start
    if start is None:
        return ""
    return (
        f"Started from weights {start.weights_sha256[:12]} "
        f"({start.iterations} iterations, {start.hours} h)."
    )


def _metrics(record: FinishedTraining, training: Path) -> dict[str, float]:
    best = record.best or read_best(training)
    figures = {**best.figures, "best_step": float(best.step)} if best else {}
    return figures | {
        "train_items": float(record.train_items),
        "val_items": float(record.val_items),
    }
