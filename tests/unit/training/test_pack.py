"""Packing: what training reads is what a stage would see."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from payerseg.config.schema import PreparationConfig
from payerseg.datasets.discover import discover, read_case
from payerseg.domain.spine_box import SpineBox
from payerseg.domain.vertebra import Vertebra
from payerseg.errors import DatasetError
from payerseg.imaging.files import write_volume
from payerseg.preprocess.frames import vertebra_frame
from payerseg.preprocess.inputs import patch_input, spine_input, vertebra_input, vertebrae_input
from payerseg.preprocess.preparation import prepare_scan
from payerseg.training.pack import PackPlan, PackReport, pack_dataset
from payerseg.training.pack_format import (
    INDEX_FILE,
    PackIndex,
    item_path,
    read_arrays,
    read_scan,
    read_val_input,
    read_vertebra,
)
from payerseg.training.recipe import STAGE1, STAGE2, STAGE3
from payerseg.training.recipes import recipe_for


@pytest.fixture(scope="module")
def data(tmp_path_factory, synthetic_spine) -> Path:
    """A train case with masks, a val case with both, one with positions only, one with nothing."""
    root = tmp_path_factory.mktemp("data")
    for folder in ("images", "segmentations", "landmarks"):
        (root / folder).mkdir()
    for name in ("a", "b", "c", "d"):
        first = "T12" if name == "a" else "T11"
        spine = synthetic_spine(seed=ord(name), first=first, last="L1")
        write_volume(spine.ct, root / "images" / f"{name}.nii.gz")
        if name in "ab":
            write_volume(spine.labels, root / "segmentations" / f"{name}_seg.nii.gz")
        if name in "bc":
            rows = [
                f"{v.name},{x},{y},{z}"
                for v, (x, y, z) in zip(spine.landmarks, spine.landmarks.positions_mm, strict=True)
            ]
            (root / "landmarks" / f"{name}.csv").write_text("label,X,Y,Z\n" + "\n".join(rows))
    (root / "train.txt").write_text("a\nc\nd\n")
    (root / "val.txt").write_text("b\n")
    facts = {name: {"source": f"set {name}", "licence": "CC0"} for name in "abcd"}
    (root / "cases.json").write_text(json.dumps(facts))
    return root


@pytest.fixture(scope="module")
def packed(data: Path, tmp_path_factory) -> tuple[Path, PackReport]:
    folder = tmp_path_factory.mktemp("pack")
    return folder, pack_dataset(discover(data), PackPlan(folder))


def test_index_names_every_item_and_source(packed: tuple[Path, PackReport]) -> None:
    folder, report = packed
    index = PackIndex.read(folder)
    assert [item.name for item in index.of(STAGE1)] == ["a", "b", "c"]
    assert [item.name for item in index.of(STAGE2)] == ["a", "b", "c"]
    cases = {item.case_id for item in index.of(STAGE3)}
    assert cases == {"a", "b"}
    assert dict(report.skipped) == {"d": "no position or mask that can be used"}
    assert all(item.licence == "CC0" and item.source for item in index.items)
    assert {item.split for item in index.of(STAGE3) if item.case_id == "b"} == {"val"}


def test_files_hold_no_pickles(packed: tuple[Path, PackReport]) -> None:
    folder, _ = packed
    files = list(folder.rglob("*.npz"))
    assert files
    for path in files:
        with np.load(path, allow_pickle=False) as arrays:
            assert all(arrays[name].dtype != object for name in arrays.files)
    assert not list(folder.rglob(".*"))


def test_validation_inputs_are_bit_identical_to_inference(
    data: Path, packed: tuple[Path, PackReport]
) -> None:
    """The keystone: one preprocessing path, and packing does not leave it."""
    folder, _ = packed
    index = PackIndex.read(folder)
    ct = prepare_scan(data / "images" / "b.nii.gz", PreparationConfig()).ct
    items = {item.network: item for item in index.items if item.name == "b"}
    stage1 = read_val_input(folder, items[STAGE1])
    expected = spine_input(ct, recipe_for("payer", STAGE1).card.sampling)
    np.testing.assert_array_equal(stage1.x[..., 0], expected.array)
    assert stage1.x.dtype == expected.array.dtype == np.float32

    case = next(c for c in discover(data).cases if c.case_id == "b")
    landmarks = read_case(case).landmarks
    assert landmarks is not None
    stage2 = read_val_input(folder, items[STAGE2])
    sampling = recipe_for("payer", STAGE2).card.sampling
    expected = vertebrae_input(ct, SpineBox.around(landmarks.positions_mm), sampling)
    np.testing.assert_array_equal(stage2.x[..., 0], expected.array)
    np.testing.assert_allclose(
        stage2.mark_indices(), expected.grid.map_world_to_indices(landmarks.positions_mm)
    )

    item = next(i for i in index.of(STAGE3) if i.name == "b_T12")
    stage3 = read_val_input(folder, item)
    sampling = recipe_for("payer", STAGE3).card.sampling
    expected = vertebra_input(ct, landmarks[Vertebra.T12].position_mm, sampling)
    np.testing.assert_array_equal(stage3.x, expected.array)
    assert stage3.mask is not None
    assert 5e3 < stage3.mask.sum() < 5e4


def test_only_validation_cases_have_inputs(packed: tuple[Path, PackReport]) -> None:
    folder, _ = packed
    assert {i.case_id for i in PackIndex.read(folder).items if i.has_val_input} == {"b"}


def test_packed_scan_keeps_marks_in_the_world(
    packed: tuple[Path, PackReport], synthetic_spine
) -> None:
    folder, _ = packed
    item = next(i for i in PackIndex.read(folder).of(STAGE2) if i.name == "c")
    scan = read_scan(folder, item)
    spine = synthetic_spine(seed=ord("c"), first="T11", last="L1")
    np.testing.assert_allclose(scan.marks[:, 1:], spine.landmarks.positions_mm, atol=1e-6)
    assert scan.spacing_mm == 2.0
    assert scan.hu.dtype == np.int16
    index = np.rint((scan.marks[:, 1:] - scan.origin_mm) / scan.spacing_mm).astype(int)
    assert all(scan.hu[z, y, x] > 250 for x, y, z in index)
    assert scan.partial  # the neighbours beyond both ends may be in view


def test_packed_vertebra_is_where_its_landmark_says(packed: tuple[Path, PackReport]) -> None:
    folder, _ = packed
    item = next(i for i in PackIndex.read(folder).of(STAGE3) if i.name == "b_T12")
    block = read_vertebra(folder, item)
    assert block.ct.array.shape == block.labels.shape == (128, 144, 160)
    middle = (np.array(block.ct.array.shape) - 1) / 2
    z, y, x = np.rint(middle + block.centre_mm[::-1]).astype(int)
    assert block.labels[z, y, x] == block.label == Vertebra.T12.verse_label
    assert {Vertebra.T11.verse_label, Vertebra.L1.verse_label} <= set(np.unique(block.labels))
    assert block.marks is not None
    own = block.marks[block.marks[:, 0] == Vertebra.T12.channel, 1:]
    np.testing.assert_allclose(own[0], block.centre_mm)


def test_a_second_group_is_added(data: Path, packed: tuple[Path, PackReport], tmp_path) -> None:
    folder = tmp_path / "pack"
    pack_dataset(discover(data), PackPlan(folder, networks=(STAGE1,)))
    pack_dataset(discover(data), PackPlan(folder, networks=(STAGE2,), group="synthetic"))
    index = PackIndex.read(folder)
    assert {item.group for item in index.of(STAGE1)} == {"real"}
    assert {item.group for item in index.of(STAGE2)} == {"synthetic"}
    with pytest.raises(DatasetError, match="another sampling"):
        pack_dataset(discover(data), PackPlan(folder, preset="reference", networks=(STAGE1,)))


def test_all_classes_at_once_have_landmark_maps(data: Path, tmp_path: Path) -> None:
    dataset = discover(data)
    only = {case.case_id: case for case in dataset.cases}
    dataset = replace(dataset, cases=(only["b"],))
    pack_dataset(dataset, PackPlan(tmp_path, preset="verse_pytorch", networks=(STAGE3,)))
    item = next(i for i in PackIndex.read(tmp_path).of(STAGE3) if i.name == "b_T12")
    x = read_val_input(tmp_path, item).x
    assert x.shape == (128, 96, 96, 26)
    landmarks = read_case(only["b"]).landmarks
    assert landmarks is not None
    ct = prepare_scan(data / "images" / "b.nii.gz", PreparationConfig()).ct
    sampling = recipe_for("verse_pytorch", STAGE3).card.sampling
    frame = vertebra_frame(landmarks[Vertebra.T12].position_mm, sampling)
    expected = patch_input(ct, frame, landmarks, sampling, 25)
    np.testing.assert_array_equal(x, expected.array)
    maps = x[..., 1:].max(axis=(0, 1, 2))
    assert maps[Vertebra.T12.channel] > 0.98
    assert maps[Vertebra.C1.channel] == 0


def test_what_cannot_be_packed(tmp_path: Path, data: Path) -> None:
    only = discover(data)
    nothing = replace(only, cases=tuple(c for c in only.cases if c.case_id == "d"))
    with pytest.raises(DatasetError, match="no case that can be trained on"):
        pack_dataset(nothing, PackPlan(tmp_path))
    with pytest.raises(DatasetError, match="prepare"):
        PackIndex.read(tmp_path)


def test_damaged_packs_are_refused(packed: tuple[Path, PackReport], tmp_path: Path) -> None:
    folder, _ = packed
    (tmp_path / INDEX_FILE).write_text('{"format": 99}')
    with pytest.raises(DatasetError, match="99"):
        PackIndex.read(tmp_path)
    index = json.loads((folder / INDEX_FILE).read_text())
    index["items"][1]["marks"] = "five"
    (tmp_path / INDEX_FILE).write_text(json.dumps(index))
    with pytest.raises(DatasetError, match=r"`int`, got `str` - at `\$\.items\[1\]\.marks`"):
        PackIndex.read(tmp_path)
    index["items"] = []
    (tmp_path / INDEX_FILE).write_text(
        json.dumps({k: index[k] for k in ("format", "sampling", "items")})
    )
    assert PackIndex.read(tmp_path) == PackIndex((), index["sampling"])
    item = PackIndex.read(folder).items[0]
    damaged = tmp_path / "x.npz"
    damaged.write_bytes(item_path(folder, item).read_bytes()[:500])
    with pytest.raises(DatasetError, match="not readable"):
        read_arrays(damaged)
