"""A training from pack to best weights: killed, resumed, divided into folds, exported."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from payerseg.config.model_card import ModelCard
from payerseg.config.training import TrainingConfig
from payerseg.errors import BundleError, ConfigError, DatasetError
from payerseg.inference.device import compile_forward
from payerseg.networks.build import build_network
from payerseg.networks.bundle import ModelBundle
from payerseg.training.export import export_bundle
from payerseg.training.pack_format import PackIndex, read_arrays
from payerseg.training.recipe import STAGE1, STAGE2, STAGE3
from payerseg.training.session import (
    assign_items,
    checkpoint_step,
    chosen_recipe,
    make_plan,
    read_val_inputs,
    sources_of,
    train_network,
    with_loss,
)
from payerseg.training.validation import validate

HEAVY = ("SimpleITK", "nibabel", "networkx", "isal")


def tiny(pack: Path, network: str = STAGE1, **changes) -> TrainingConfig:
    config = TrainingConfig(
        network=network,  # type: ignore[arg-type]
        pack=str(pack),
        iterations=12,
        widths=(2, 2),
        precision="float32",
        save_every=5,
        validate_every=6,
        report_every=2,
        tensorboard=False,
        seed=3,
    )
    return replace(config, **changes)


def losses(folder: Path) -> dict[int, float]:
    with (folder / "history.csv").open(newline="") as file:
        return {int(r["step"]): float(r["loss"]) for r in csv.DictReader(file) if r["loss"]}


class Killed(Exception):
    pass


def die_at(step: int):
    def tell(now: int, total: int, figures: dict) -> None:
        if now >= step:
            raise Killed

    return tell


@pytest.fixture(scope="module")
def straight(tiny_pack: Path, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("straight") / STAGE1
    train_network(tiny(tiny_pack), folder)
    return folder


def test_a_resumed_training_is_the_same_training(
    straight: Path, tiny_pack: Path, tmp_path: Path
) -> None:
    """Same data order, same schedule, same averages: the weights agree to rounding."""
    folder = tmp_path / STAGE1
    with pytest.raises(Killed):
        train_network(tiny(tiny_pack), folder, die_at(8))
    assert checkpoint_step(folder) == 5
    assert max(losses(folder)) == 8
    record = train_network(tiny(tiny_pack, num_workers=3), folder)
    assert record.iterations == 12
    expected, found = losses(straight), losses(folder)
    # the report at 6 covers step 6 alone after a resume at 5, steps 5 and 6 in a straight run
    same = sorted(set(expected) - {6})
    assert sorted(found) == sorted(expected)
    np.testing.assert_allclose([found[s] for s in same], [expected[s] for s in same], rtol=1e-4)
    first, second = (read_arrays(f / "checkpoint.npz") for f in (straight, folder))
    assert set(first) == set(second)
    for key in first:
        if key != "seconds":
            np.testing.assert_allclose(first[key], second[key], rtol=1e-3, atol=1e-5, err_msg=key)


def test_deep_supervision_resumes_and_stays_out_of_the_bundle(
    tiny_pack: Path, tmp_path: Path
) -> None:
    """Heads are in checkpoint and averages; the bundle is exactly the card's network."""
    config = tiny(tiny_pack, STAGE3, widths=(2, 2, 2), deep_supervision=0.4)
    train_network(config, tmp_path / "straight")
    folder = tmp_path / STAGE3
    with pytest.raises(Killed):
        train_network(config, folder, die_at(8))
    with pytest.raises(ConfigError, match="another deep_supervision"):
        train_network(replace(config, deep_supervision=0.0), folder)
    train_network(config, folder)
    first, second = (read_arrays(f / "checkpoint.npz") for f in (tmp_path / "straight", folder))
    assert set(first) == set(second)
    for key in set(first) - {"seconds"}:
        np.testing.assert_allclose(first[key], second[key], rtol=1e-3, atol=1e-5, err_msg=key)
    card = export_bundle(folder, tmp_path / "bundle", weights_dtype="float32")
    bundle = ModelBundle.open(tmp_path / "bundle", stage=STAGE3)
    trained = build_network(card.network).weights
    assert set(bundle.weights) == {variable.path for variable in trained}
    heads = sum(key.startswith("average_") for key in second) - len(trained)
    assert heads == 2, "kernel and bias of the one coarser level"
    best = json.loads((folder / "best.json").read_text())
    forward = compile_forward(bundle.network())
    inputs = read_val_inputs(
        tiny_pack, assign_items(PackIndex.read(tiny_pack), config, folder).val, config
    )
    assert validate(forward, card, inputs).figures["dice"] == pytest.approx(best["figures"]["dice"])


def test_without_deep_supervision_the_network_itself_is_fitted() -> None:
    config = TrainingConfig(network=STAGE3, widths=(2, 2, 2))
    recipe = chosen_recipe(config)
    network = build_network(recipe.card.network)
    fitted, loss = with_loss(network, recipe, config)
    assert fitted is network
    assert loss is not None
    assert loss.name == recipe.loss
    fitted, loss = with_loss(network, recipe, replace(config, deep_supervision=0.4))
    assert fitted is not network
    assert loss is None


def test_deep_supervision_is_refused_where_there_is_no_coarser_level(
    tiny_pack: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"2 level\(s\)"):
        train_network(tiny(tiny_pack, deep_supervision=0.4), tmp_path / STAGE1)
    assert not (tmp_path / STAGE1 / "choices.json").exists()


def test_a_training_older_than_an_option_was_one_without_it(
    tiny_pack: Path, tmp_path: Path
) -> None:
    folder = tmp_path / STAGE1
    with pytest.raises(Killed):
        train_network(tiny(tiny_pack), folder, die_at(6))
    choices = json.loads((folder / "choices.json").read_text())
    del choices["deep_supervision"]
    (folder / "choices.json").write_text(json.dumps(choices))
    assert train_network(tiny(tiny_pack), folder).iterations == 12


def test_block_and_schedule_replace_the_recipes() -> None:
    base = TrainingConfig(network=STAGE1, preset="verse_pytorch", epochs=2)
    config = replace(base, block_xyz=(48, 48, 96), schedule="cosine")
    recipe = chosen_recipe(config)
    assert recipe.examples.shape_zyx == (96, 48, 48)
    assert recipe.card == chosen_recipe(base).card
    assert make_plan(config, recipe, 3).schedule == "cosine"
    assert make_plan(base, chosen_recipe(base), 3).schedule == "per_epoch"
    with pytest.raises(ConfigError, match="block_xyz"):
        chosen_recipe(replace(base, block_xyz=(48, 48, 100)))


def test_resuming_with_other_choices_is_refused(tiny_pack: Path, tmp_path: Path) -> None:
    folder = tmp_path / STAGE1
    with pytest.raises(Killed):
        train_network(tiny(tiny_pack), folder, die_at(6))
    with pytest.raises(ConfigError, match="iterations, learning_rate"):
        train_network(tiny(tiny_pack, iterations=13, learning_rate=1e-5), folder)
    with pytest.raises(ConfigError, match="another output folder"):
        train_network(tiny(tiny_pack, resume=False), folder)
    train_network(tiny(tiny_pack, report_every=3), folder)  # what changes no result may differ


@pytest.mark.parametrize(
    ("network", "changes"),
    [
        (STAGE2, {}),
        (STAGE2, {"loss": "learnable_sigma", "ema": 0.0}),
        (STAGE3, {"batch_size": 2, "tensorboard": True}),
    ],
)
def test_every_network_trains_and_is_exported(
    tiny_pack: Path, tmp_path: Path, network: str, changes: dict
) -> None:
    folder = tmp_path / network
    told = []
    config = tiny(tiny_pack, network, iterations=4, validate_every=4, **changes)
    record = train_network(config, folder, lambda *row: told.append(row))
    assert [row[:2] for row in told] == [(2, 4), (4, 4), (4, 4)]
    assert record.best.step == 4
    assert {s.licence for s in record.sources} == {"CC0"}
    card = export_bundle(folder, tmp_path / "bundle", notes="a test")
    bundle = ModelBundle.open(tmp_path / "bundle", stage=network)
    assert bundle.card == card
    assert card.training.iterations == 4
    assert {s.name for s in card.training.sources} == {"set a", "set b", "set c"}
    best = read_arrays(folder / "best.npz")
    for name, value in bundle.weights.items():
        np.testing.assert_allclose(value, best[name], rtol=1e-3, atol=1e-6)
    page = (tmp_path / "bundle" / "README.md").read_text()
    assert "| set a | CC0 | 1 |" in page
    assert "a test" in page
    assert bool(list(folder.glob("tensorboard/events*"))) is changes.get("tensorboard", False)


def test_exporting_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"training\.json"):
        export_bundle(tmp_path, tmp_path / "bundle")


def test_folds_by_patient(tiny_pack: Path, tmp_path: Path) -> None:
    index = PackIndex.read(tiny_pack)
    seen = set()
    for fold in range(3):
        config = tiny(tiny_pack, fold=fold)
        assignment = assign_items(index, config, tmp_path / f"{STAGE1}_fold{fold}")
        train = {item.patient_id for item in assignment.train}
        val = {item.patient_id for item in assignment.val}
        assert not train & val
        seen |= val
    assert seen == {"p0", "p1", "p2"}  # p3 is what the data keeps for validation
    assert (tmp_path / "folds.json").is_file()


def test_synthetic_bodies_teach_in_every_fold_and_measure_in_none(
    tiny_pack: Path, tmp_path: Path
) -> None:
    index = PackIndex.read(tiny_pack)
    without = [
        assign_items(index, tiny(tiny_pack, fold=k), tmp_path / f"w/{k}").val for k in range(3)
    ]
    bodies = tuple(
        replace(item, name=f"s{item.name}", case_id="s", patient_id="s", group="synthetic")
        for item in index.items
        if item.case_id == "a"
    )
    mixed = PackIndex((*index.items, *bodies), {})
    for fold in range(3):
        found = assign_items(mixed, tiny(tiny_pack, fold=fold), tmp_path / f"m/{fold}")
        assert found.val == without[fold]
        assert "s" in {item.case_id for item in found.train}


def test_without_a_fold_the_split_decides(tiny_pack: Path, tmp_path: Path) -> None:
    assignment = assign_items(PackIndex.read(tiny_pack), tiny(tiny_pack), tmp_path / "x")
    assert {item.case_id for item in assignment.train} == {"a", "b", "c"}
    assert {item.case_id for item in assignment.val} == {"v"}
    assert [s.items for s in sources_of(assignment.train)] == [1, 1, 1]


def test_nothing_to_train_on(tmp_path: Path) -> None:
    PackIndex().write(tmp_path)
    with pytest.raises(DatasetError, match="nothing to train"):
        train_network(tiny(tmp_path), tmp_path / STAGE1)


def test_an_unknown_loss_is_refused_before_any_work(tiny_pack: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="known are"):
        train_network(tiny(tiny_pack, loss="l7"), tmp_path / STAGE1)
    assert not (tmp_path / STAGE1 / "checkpoint.npz").exists()


def test_no_image_library_is_needed() -> None:
    code = (
        "import sys, payerseg.training.session, payerseg.training.export;"
        f"print([m for m in {HEAVY!r} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.slow
def test_kill_minus_nine_and_the_same_command_again(tiny_pack: Path, tmp_path: Path) -> None:
    """A real process, killed where it happens to be, goes on from its last checkpoint."""
    command = [sys.executable, "-m", "payerseg", "train", "fit", str(tiny_pack), "-o"]
    command += [str(tmp_path / "out"), "--stage", "1", "--iterations", "120", "--gpu", "-1"]
    for text in ("widths=[2,2]", "save_every=10", "validate_every=60", "report_every=5"):
        command += ["--set", f"training.{text}"]
    folder = tmp_path / "out" / STAGE1
    for _ in range(2):
        before = checkpoint_step(folder)
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 240
        while checkpoint_step(folder) < before + 20 and time.monotonic() < deadline:
            assert process.poll() is None, "the training ended by itself"
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        time.sleep(1)  # the leash ends the stage process
        assert checkpoint_step(folder) >= before + 20
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    steps = list(losses(folder))
    assert steps == sorted(set(steps))
    assert steps[-1] == 120
    record = json.loads((folder / "training.json").read_text())
    assert record["iterations"] == 120
    assert ModelBundle.open(tmp_path / "out" / "bundles" / STAGE1).card.training.command


@pytest.fixture(scope="module")
def bundle(straight: Path, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("bundle")
    export_bundle(straight, folder, weights_dtype="float32")
    return folder


def test_a_training_starts_from_a_bundle(tiny_pack: Path, bundle: Path, tmp_path: Path) -> None:
    config = tiny(tiny_pack, initial_weights=str(bundle), iterations=1, learning_rate=0.0)
    train_network(config, tmp_path / STAGE1)
    old = ModelBundle.open(bundle)
    new = read_arrays(tmp_path / STAGE1 / "best.npz")
    for name, array in old.weights.items():
        np.testing.assert_allclose(new[name], array, atol=1e-6, err_msg=name)
    card = export_bundle(tmp_path / STAGE1, tmp_path / "bundle", notes="Ours.")
    assert old.card.weights_sha256[:12] in card.training.notes
    assert card.training.notes.endswith("Ours.")


def test_the_mean_with_the_initial_weights_keeps_what_was_fitted_to_them(
    tiny_pack: Path, straight: Path, tmp_path: Path
) -> None:
    first = tmp_path / "first"
    export_bundle(straight, first, weights_dtype="float32")
    card = replace(ModelCard.read(first), mask_threshold=0.3)
    (first / "model.json").write_text(card.to_json())
    train_network(tiny(tiny_pack, initial_weights=str(first), iterations=2), tmp_path / STAGE1)
    mean = export_bundle(
        tmp_path / STAGE1, tmp_path / "mean", weights_dtype="float32", average_with=first
    )
    new, old = read_arrays(tmp_path / STAGE1 / "best.npz"), ModelBundle.open(first).weights
    assert any(np.abs(new[name] - old[name]).max() > 1e-5 for name in old)
    for name, array in ModelBundle.open(tmp_path / "mean").weights.items():
        np.testing.assert_allclose(array, (new[name] + old[name]) / 2, atol=1e-6, err_msg=name)
    assert mean.mask_threshold == 0.3
    assert mean.training.notes.startswith("Started from weights")
    with pytest.raises(BundleError, match="only the mean with the first"):
        export_bundle(tmp_path / STAGE1, tmp_path / "no", average_with=tmp_path / "mean")


def test_the_card_names_what_the_initial_weights_have_seen(straight: Path, tmp_path: Path) -> None:
    shutil.copytree(straight, tmp_path / STAGE1)
    path = tmp_path / STAGE1 / "training.json"
    record = json.loads(path.read_text())
    own = record["sources"][0]
    earlier = {"name": "elsewhere", "licence": "CC0", "items": 7, "note": ""}
    start = {"weights_sha256": "0" * 64, "iterations": 9, "hours": 1.5, "sources": [own, earlier]}
    path.write_text(json.dumps(record | {"start": start}))
    card = export_bundle(tmp_path / STAGE1, tmp_path / "bundle")
    names = [source.name for source in card.training.sources]
    assert names.count(own["name"]) == 1
    assert "elsewhere" in names


def test_initial_weights_of_another_kind_are_refused(
    tiny_pack: Path, bundle: Path, tmp_path: Path
) -> None:
    with pytest.raises(BundleError, match="spine_localization"):
        train_network(tiny(tiny_pack, STAGE2, initial_weights=str(bundle)), tmp_path / "a")
    wide = tiny(tiny_pack, initial_weights=str(bundle), widths=(4, 4))
    with pytest.raises(BundleError, match="another network"):
        train_network(wide, tmp_path / "b")
    card = json.loads((bundle / "model.json").read_text())
    other = tmp_path / "other"
    shutil.copytree(bundle, other)
    card["sampling"]["spacing_mm"] = 5.0
    (other / "model.json").write_text(json.dumps(card))
    with pytest.raises(ConfigError, match="spacing_mm"):
        train_network(tiny(tiny_pack, initial_weights=str(other)), tmp_path / "c")
