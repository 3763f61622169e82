"""A tiny pack made of numbers alone: no image library, so that it also tests backends without one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from payerseg.training.pack_format import PackIndex, PackItem, item_path, val_path, write_arrays
from payerseg.training.recipe import STAGE1, STAGE2, STAGE3

CHANNELS = (17, 18, 19, 20)
LABELS = (18, 19, 20, 21)


def scan_arrays(seed: int, spacing_mm: float, shape_zyx: tuple[int, int, int]) -> dict:
    """A soft body with four bright balls in a column."""
    rng = np.random.default_rng(seed)
    middle = np.array(shape_zyx[::-1]) * spacing_mm / 2
    offsets = np.array([[0, 0, 45.0], [2, 3, 15], [0, 4, -15], [-2, 2, -45]])
    points = middle + offsets + rng.normal(0, 2, 3)
    index = np.indices(shape_zyx).reshape(3, -1).T[:, ::-1] * spacing_mm
    hu = rng.normal(20, 10, len(index))
    for point in points:
        hu[np.linalg.norm(index - point, axis=1) < 13] = 400
    marks = np.column_stack([CHANNELS, points])
    return {
        "hu": hu.reshape(shape_zyx).astype(np.int16),
        "origin_mm": np.zeros(3),
        "spacing_mm": np.array(spacing_mm),
        "marks": marks,
        "partial": np.array([16, 21]),
    }


def val_arrays(
    seed: int, spacing_mm: float, shape_zyx: tuple[int, int, int], channels: int
) -> dict:
    scan = scan_arrays(seed, spacing_mm, shape_zyx)
    image = np.clip(scan["hu"] / 600, -1.7, 2.5).astype(np.float32)[..., None]
    heat = np.zeros((*shape_zyx, channels - 1), np.float32)
    kept = {key: scan[key] for key in ("origin_mm", "spacing_mm", "marks", "partial")}
    return {"x": np.concatenate([image, heat], axis=-1), **kept}


def vertebra_arrays(seed: int, label: int) -> dict:
    shape = (72, 80, 80)
    index = np.indices(shape).reshape(3, -1).T - (np.array(shape) - 1) / 2
    ball = (np.linalg.norm(index + np.array([0, 10, 0]), axis=1) < 14).reshape(shape)
    rng = np.random.default_rng(seed)
    return {
        "hu": np.where(ball, 400, 20 + rng.normal(0, 10, shape)).astype(np.int16),
        "labels": (ball * label).astype(np.uint8),
        "label": np.array(label),
        "centre_mm": np.array([0.0, -10.0, 0.0]),
        "spacing_mm": np.array(1.0),
        "marks": np.array([[label - 1, 0.0, -10.0, 0.0]]),
    }


def write_tiny_pack(folder: Path) -> Path:
    """Three training cases and one validation case for each network."""
    items = []
    for network, spacing, shape, val_shape, val_spacing in (
        (STAGE1, 4.0, (48, 30, 30), (24, 16, 16), 8.0),
        (STAGE2, 2.0, (96, 60, 60), (64, 48, 48), 3.0),
    ):
        for k, name in enumerate("abcv"):
            split = "val" if name == "v" else "train"
            item = PackItem(
                name, network, name, f"p{k}", split, "real", f"set {name}", "CC0", 4, True
            )
            write_arrays(item_path(folder, item), scan_arrays(k, spacing, shape))
            write_arrays(val_path(folder, item), val_arrays(k, val_spacing, val_shape, 1))
            items.append(item)
    for k, (name, label) in enumerate(zip("abcv", LABELS, strict=True)):
        split = "val" if name == "v" else "train"
        item = PackItem(
            f"{name}_x", STAGE3, name, f"p{k}", split, "real", f"set {name}", "CC0", 1, True
        )
        block = vertebra_arrays(k, label)
        write_arrays(item_path(folder, item), block)
        shape = (32, 32, 32)
        arrays = val_arrays(k, 1.0, shape, 2) | {
            "marks": np.array([[label - 1, 16.0, 16.0, 16.0]]),
            "mask": np.ones(shape, np.uint8),
            "label": np.array(label),
        }
        write_arrays(val_path(folder, item), arrays)
        items.append(item)
    PackIndex(tuple(items), {}).write(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_pack(tmp_path_factory) -> Path:
    """A pack with items of all three networks."""
    return write_tiny_pack(tmp_path_factory.mktemp("tiny_pack"))
