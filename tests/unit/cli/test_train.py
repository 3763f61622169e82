"""`payerseg train` and its parts."""

import json
from pathlib import Path

import pytest

from payerseg.cli.app import payerseg, run_guarded
from payerseg.config.model_card import ModelCard
from payerseg.imaging.files import write_volume


@pytest.fixture(scope="module")
def data(tmp_path_factory, synthetic_spine) -> Path:
    root = tmp_path_factory.mktemp("data")
    for folder in ("images", "segmentations"):
        (root / folder).mkdir()
    for name in ("a", "b"):
        spine = synthetic_spine(seed=ord(name), first="T12", last="L1")
        write_volume(spine.ct, root / "images" / f"{name}.nii.gz")
        write_volume(spine.labels, root / "segmentations" / f"{name}_seg.nii.gz")
    (root / "train.txt").write_text("a\n")
    (root / "val.txt").write_text("b\n")
    return root


def run(*arguments: object) -> int:
    return run_guarded(payerseg, ["train", *map(str, arguments)])


def test_check_a_good_and_a_bad_set(data: Path, tmp_path: Path, capsys) -> None:
    assert run("check", data) == 0
    assert "2 cases (simple layout): 0 error(s)" in capsys.readouterr().out
    bad = tmp_path / "bad"
    (bad / "images").mkdir(parents=True)
    (bad / "images" / "x.nii.gz").write_bytes(b"nothing")
    assert run("check", bad, "--json") == 3
    report = json.loads(capsys.readouterr().out)
    assert report["error"] == 1
    assert report["findings"][0]["code"] == "image_unreadable"


def test_strict_counts_warnings(data: Path, tmp_path: Path) -> None:
    (tmp_path / "images").symlink_to(data / "images")
    (tmp_path / "segmentations").symlink_to(data / "segmentations")
    assert run("check", tmp_path) == 0  # no train.txt is a warning
    assert run("check", tmp_path, "--strict") == 3


@pytest.mark.slow
def test_prepare_fit_export(data: Path, tmp_path: Path, capsys) -> None:
    pack, out = tmp_path / "pack", tmp_path / "out"
    assert run("prepare", data, "-o", pack, "--stage", "1") == 0
    assert "packed 2 for spine_localization" in capsys.readouterr().err
    options = ["--stage", 1, "--iterations", 2, "--gpu", -1]
    options += ["--set", "training.widths=[2,2]", "--set", "training.report_every=1"]
    assert run("fit", pack, "-o", out, *options) == 0
    text = capsys.readouterr().err
    assert "spine_localization 2/2" in text
    bundle = ModelCard.read(out / "bundles" / "spine_localization")
    assert bundle.training.iterations == 2
    assert bundle.training.command.startswith("payerseg ")
    again = tmp_path / "again"
    assert run("export", out / "spine_localization", "-o", again, "--notes", "two steps") == 0
    assert ModelCard.read(again).training.notes == "two steps"
    assert run("fit", pack, "-o", out, *options[:2], "--iterations", 3, *options[4:]) == 2
    assert "another iterations" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        ((), "--data_dir and --output_dir"),
        (("--set", "training.epocs=1", "--data_dir", ".", "--output_dir", "."), "layout"),
        (("fit", ".", "-o", ".", "--set", "training.epocs=1"), "did you mean 'epochs'"),
        (("fit", ".", "-o", ".", "--set", "training.deep_supervision=0.4"), "--stage 1 or 3"),
        (("export", ".", "-o", "x"), "training.json"),
    ],
)
def test_usage(arguments: tuple, found: str, capsys, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(*arguments) == 2
    assert found in capsys.readouterr().err
