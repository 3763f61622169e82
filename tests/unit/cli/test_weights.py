"""`payerseg weights`: what people see, and the exit codes."""

import shutil

import pytest

from payerseg.cli.app import payerseg, run_guarded
from payerseg.config.model_card import ModelCard, SamplingSpec, SCNetSpec, UNetSpec
from payerseg.networks.build import build_network
from payerseg.networks.bundle import ModelBundle, save

STAGE = "spine_localization"
SPEC = UNetSpec((2, 3))
SCN = SCNetSpec(UNetSpec((2,), 1, 3), UNetSpec((2, 4), 3, 3), pool=2)


@pytest.fixture
def bundles(tmp_path):
    folder = tmp_path / "bundles"
    for name, spec in (("a", SPEC), ("b", SCN)):
        card = ModelCard(STAGE, spec, SamplingSpec(8.0))
        save(build_network(spec), card, folder / name)
    return folder


@pytest.fixture
def checkpoint(shared_dir, tmp_path):
    for path in (shared_dir / "reference" / "checkpoints" / STAGE).glob("ckpt-10.*"):
        shutil.copyfile(path, tmp_path / path.name)
    return tmp_path / "ckpt-10"


def run(*arguments):
    return run_guarded(payerseg, ["weights", *map(str, arguments)])


def test_list(bundles, capsys):
    assert run("list", bundles) == 0
    first, a, b = capsys.readouterr().out.splitlines()
    assert first.endswith("2 bundle(s)")
    assert a.startswith("a: spine_localization, payer, U-Net 2-3, 8 mm, heatmap, float32, sha256 ")
    assert "SCN 2 + 2-4" in b
    assert run("list", bundles / "a") == 0


def test_list_names_what_is_damaged(bundles, capsys):
    (bundles / "b" / "model.weights.h5").write_bytes(b"")
    assert run("list", bundles) == 3
    assert "b: PROBLEM" in capsys.readouterr().out


def test_verify(bundles, capsys):
    assert run("verify", bundles / "a", bundles / "b") == 0
    out = capsys.readouterr().out
    assert out.count("sound") == 2
    assert f"{build_network(SPEC).count_params():,} parameters" in out
    assert run("verify", bundles / "a", "--stage", "vertebrae_segmentation") == 3
    assert "expected vertebrae_segmentation" in capsys.readouterr().out
    assert run("verify", bundles / "none") == 3


def test_import_writes_a_bundle_that_opens(checkpoint, capsys):
    assert run("import", checkpoint, "--stage", STAGE, "--float16") == 0
    target = f"{checkpoint}.bundle"
    assert capsys.readouterr().out.strip() == target
    assert ModelBundle.open(target, STAGE).card.weights_dtype == "float16"
    assert run("import", checkpoint, "--stage", STAGE) == 2
    assert "holds a bundle already" in capsys.readouterr().err
    assert run("import", checkpoint, "--stage", STAGE, "--force") == 0
    assert ModelBundle.open(target, STAGE).card.weights_dtype == "float32"


def test_import_refuses_what_does_not_fit(checkpoint, tmp_path, capsys):
    assert run("import", tmp_path / "nothing", "--stage", STAGE) == 2
    assert "nothing.index is missing" in capsys.readouterr().err
    assert run("import", checkpoint, "--stage", "vertebrae_localization", "-o", tmp_path / "o") == 2
    assert "is missing" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()
