"""What averaging brings: the last checkpoint of a training, raw and averaged weights, on validation items.

    python benchmarks/averaged_weights.py OUT/vertebrae_segmentation PACK --items 8

Works while the training runs: a checkpoint is replaced in one move.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from payerseg.config.load import section_from_dict
from payerseg.config.model_card import ModelCard
from payerseg.config.training import TrainingConfig
from payerseg.inference.device import choose_precision, compile_forward
from payerseg.networks.build import build_network
from payerseg.training.pack_format import PackIndex
from payerseg.training.session import (
    CHECKPOINT_FILE,
    assign_items,
    chosen_recipe,
    read_val_inputs,
    with_loss,
)
from payerseg.training.validation import validate

GROUPS = {"raw": "weight", "averaged": "average"}
"""Name shown → name in the checkpoint."""


def main() -> None:
    """Print the figures of both sets of weights."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("training", type=Path, help="folder of one network's training")
    parser.add_argument("pack", type=Path, help="pack it was trained on")
    parser.add_argument("--items", type=int, default=64, help="validation items, evenly chosen")
    arguments = parser.parse_args()
    choices = json.loads((arguments.training / "choices.json").read_text(encoding="utf-8"))
    card = ModelCard.from_json(json.dumps(choices.pop("card")), str(arguments.training))
    values = {key: value for key, value in choices.items() if value is not None}
    config = section_from_dict(TrainingConfig, values, "training")
    config = replace(config, pack=str(arguments.pack), max_val_items=arguments.items)
    assignment = assign_items(PackIndex.read(arguments.pack), config, arguments.training)
    inputs = read_val_inputs(arguments.pack, assignment.val, config)
    network = build_network(card.network, choose_precision(config.precision))
    fitted, _ = with_loss(network, replace(chosen_recipe(config), card=card), config)
    with np.load(arguments.training / CHECKPOINT_FILE, allow_pickle=False) as data:
        arrays = dict(data)
    if not fitted.built:
        fitted(inputs[0].x[None])
    for name, group in GROUPS.items():
        fitted.set_weights([arrays[f"{group}_{i}"] for i in range(len(fitted.weights))])
        figures = validate(compile_forward(network), card, inputs).figures
        shown = "  ".join(f"{key} {value:.4f}" for key, value in figures.items())
        print(f"{card.stage} step {int(arrays['step'])} {name:8s} {shown}", flush=True)


if __name__ == "__main__":
    main()
