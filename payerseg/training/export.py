"""From a training's folder to a model bundle: the best weights and how they were made."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from payerseg.config.model_card import ModelCard, Source, TrainingRecord, single_sources
from payerseg.errors import BundleError
from payerseg.networks.bundle import save
from payerseg.training.history import read_best
from payerseg.training.pack_format import read_arrays
from payerseg.training.session import BEST_WEIGHTS_FILE, RECORD_FILE

WeightsType = Literal["float32", "float16"]


def export_bundle(
    training: Path,
    bundle: Path,
    *,
    notes: str = "",
    weights_dtype: WeightsType = "float16",
) -> ModelCard:
    """Write the best weights of a training as a bundle.

    Args:
        training: folder of one network's training, finished or not.
        bundle: folder to write.
        notes: anything a user of the weights must know.
        weights_dtype: float16 halves the file.

    Returns:
        The card as written; a README.md beside it names every source and licence.

    Raises:
        BundleError: the folder holds no trained weights.
    """
    record = read_record(training)
    card = ModelCard.from_json(json.dumps(record["card"]), str(training / RECORD_FILE))
    trained = TrainingRecord(
        sources=_sources(record),
        metrics=_metrics(record, training),
        iterations=int(record["iterations"]),
        seed=int(record["seed"]),
        hardware=str(record["hardware"]),
        hours=round(float(record["seconds"]) / 3600, 2),
        command=str(record["config"].get("command", "")),
        notes=" ".join(text for text in (_start(record), notes) if text),
    )
    arrays = read_arrays(training / BEST_WEIGHTS_FILE)
    written = save(arrays, replace(card, training=trained, weights_dtype=weights_dtype), bundle)
    (bundle / "README.md").write_text(card_text(written), encoding="utf-8")
    return written


def read_record(training: Path) -> dict[str, Any]:
    """Read a training's record.

    Raises:
        BundleError: there is none, or no weights.
    """
    for name in (RECORD_FILE, BEST_WEIGHTS_FILE):
        if not (training / name).is_file():
            msg = f"{training} holds no {name}; expected a folder that payerseg train has finished"
            raise BundleError(msg)
    return json.loads((training / RECORD_FILE).read_text(encoding="utf-8"))


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


def _sources(record: dict[str, Any]) -> tuple[Source, ...]:
    """Return this training's sources, then those that only the initial weights have seen."""
    own = single_sources(Source(**source) for source in record["sources"])
    named = {(s.name, s.licence) for s in own}
    start = record.get("start") or {}
    earlier = single_sources(Source(**source) for source in start.get("sources", ()))
    return (*own, *(s for s in earlier if (s.name, s.licence) not in named))


def _start(record: dict[str, Any]) -> str:
    start = record.get("start")
    if not start:
        return ""
    return (
        f"Started from weights {start['weights_sha256'][:12]} "
        f"({start['iterations']} iterations, {start['hours']} h)."
    )


def _metrics(record: dict[str, Any], training: Path) -> dict[str, float]:
    best = record.get("best") or read_best(training) or {}
    figures = {key: float(value) for key, value in best.get("figures", {}).items()}
    if best:
        figures["best_step"] = float(best["step"])
    return figures | {
        "train_items": float(record["train_items"]),
        "val_items": float(record["val_items"]),
    }
