"""Choices of a training: precedence, refusals, what is asked of a fold."""

from dataclasses import fields
from pathlib import Path

import pytest

from payerseg.config.training import TrainingConfig, load_training_config, shares_by_group
from payerseg.errors import ConfigError


def test_precedence(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text("[training]\nseed = 1\nepochs = 5\nwidths = [4, 8]\nbatch_size = 2\n")
    flags = {"batch_size": 4, "learning_rate": None}
    config = load_training_config(path, ["training.epochs=7"], flags)
    assert (config.seed, config.epochs, config.batch_size) == (1, 7, 4)
    assert config.widths == (4, 8)
    assert config.learning_rate is None


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("[training]\nepocs = 1\n", "did you mean 'epochs'"),
        ("[driver]\nseed = 1\n", "reads the table"),
        ("[training\n", "TOML"),
        ("[training]\nbatch_size = 0\n", "batch_size"),
        ("[training]\nfold = 3\n", "expected 0 to 2"),
        ('[training]\npreset = "best"\n', "preset"),
        ('[training]\ngroup_shares = ["real"]\n', "name=share"),
        ("[training]\ndeep_supervision = 1.5\n", "deep_supervision"),
        (
            '[training]\ndeep_supervision = 0.4\nnetwork = "vertebrae_localization"\n',
            "--stage 1 or 3",
        ),
    ],
)
def test_refusals(tmp_path: Path, text: str, found: str) -> None:
    path = tmp_path / "a.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=found):
        load_training_config(path)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read"):
        load_training_config(tmp_path / "no.toml")


def test_shares() -> None:
    assert shares_by_group(["real=0.6", " synthetic = 0.4"]) == (("real", 0.6), ("synthetic", 0.4))
    with pytest.raises(ConfigError, match="real=-1"):
        shares_by_group(["real=-1"])
    assert TrainingConfig(fold=2).folds == 3


def test_every_setting_is_documented(repository: Path) -> None:
    page = (repository / "docs" / "train-your-own.md").read_text(encoding="utf-8")
    for item in fields(TrainingConfig):
        assert f"| `{item.name}` |" in page
        assert item.metadata["text"] in page
