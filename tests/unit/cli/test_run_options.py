from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from payerseg.cli.run import (
    RunOptions,
    as_run_options,
    choice_options,
    config_options,
    weights_options,
)
from payerseg.config.weights import default_bundle
from payerseg.errors import ConfigError


def parse(*arguments):
    """Parse the options of a run; return the RunOptions."""
    seen = []

    @click.command()
    @click.argument("inputs", nargs=-1, type=click.Path(path_type=Path))
    @click.option("-o", "output", type=click.Path(path_type=Path))
    @weights_options
    @choice_options
    @config_options
    @as_run_options
    def command(options):
        seen.append(options)

    result = CliRunner().invoke(command, ["a", "b", "-o", "out", *arguments])
    assert seen or result.exit_code == 2, result.output
    return seen[0] if seen else result.output


def test_defaults_are_the_schema_and_the_shipped_weights():
    options = parse()
    assert options == RunOptions((Path("a"), Path("b")), Path("out"))
    settings = options.settings()
    assert settings.output == Path.cwd() / "out"
    assert settings.weights["spine_localization"] == default_bundle("spine_localization")
    assert len(settings.weights) == 3
    assert settings.config.driver.device == "auto"


def test_options_reach_the_driver():
    settings = parse(
        *("--from-stage", "vertebrae_localization", "--to-stage", "vertebrae_segmentation"),
        *("--force", "--only-case", "x", "--only-case", "y", "--dry-run", "--shard", "2/4"),
        *("--device", "gpu:1", "--keep", "all", "--export", "flat", "--model_step2", "mine"),
        *("--set", "spine_localization.threshold=0.4", "--set", "driver.threads=3"),
    ).settings()
    assert (settings.from_stage, settings.to_stage) == (
        "vertebrae_localization",
        "vertebrae_segmentation",
    )
    assert settings.force
    assert settings.dry_run
    assert settings.only_cases == ("x", "y")
    assert settings.shard == (2, 4)
    assert settings.exports == ("flat",)
    assert settings.weights["vertebrae_localization"] == Path.cwd() / "mine"
    assert settings.config.spine_localization.threshold == 0.4
    driver = settings.config.driver
    assert (driver.device, driver.keep, driver.threads) == ("gpu:1", "all", 3)


def test_a_preset_brings_its_own_weights():
    settings = parse("--preset", "verse_pytorch", "--model_step1", "mine").settings()
    assert settings.weights == {
        "spine_localization": Path.cwd() / "mine",
        "vertebrae_localization": default_bundle("vertebrae_localization", "verse_pytorch"),
        "vertebrae_segmentation": default_bundle("vertebrae_segmentation", "verse_pytorch"),
    }


def test_flat_files_are_the_drivers_and_other_formats_follow_the_run():
    options = parse("--export", "flat", "--export", "bids", "--export", "mesh")
    assert options.settings().exports == ("flat",)
    assert options.other_exports == ("bids", "mesh")
    whole = parse("--export", "all")
    assert (whole.settings().exports, whole.other_exports) == ((), ("all",))


def test_the_engine_is_an_option():
    assert parse("--backend", "torch").settings().config.driver.backend == "torch"
    assert parse("--set", "driver.backend=jax").settings().config.driver.backend == "jax"


@pytest.mark.parametrize(
    "wrong",
    [
        ["--shard", "0/4"],
        ["--shard", "5/4"],
        ["--shard", "half"],
        ["--shard", "1/" + "9" * 1000],
        ["--device", "tpu"],
        ["--keep", "everything"],
        ["--from-stage", "stage2"],
        ["--config", "absent.toml"],
        ["--export", "dicom"],
    ],
)
def test_what_cannot_be_meant_is_refused_at_once(wrong):
    assert wrong[1] in parse(*wrong)


def test_a_wrong_setting_is_a_configuration_error():
    with pytest.raises(ConfigError, match="did you mean 'threshold'"):
        parse("--set", "spine_localization.treshold=1").settings()
