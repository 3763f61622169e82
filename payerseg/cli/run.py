"""`payerseg run`: scans in, one result folder per case out."""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click

from payerseg.cli.export import ALL, FORMATS, Export, write_formats
from payerseg.config.load import load_config, section_from_dict, section_to_dict, with_overrides
from payerseg.config.schema import (
    BACKENDS,
    DEVICES,
    KEEP_LEVELS,
    DriverConfig,
    RunConfig,
    is_device,
)
from payerseg.config.weights import DEFAULT_FAMILY, default_bundle
from payerseg.driver.console import Console, choose_listener
from payerseg.driver.inputs import tidy_path
from payerseg.driver.run import run_pipeline
from payerseg.driver.settings import RunSettings
from payerseg.driver.status import remembered_settings
from payerseg.stagekit.catalog import PIPELINE

STAGE_NAMES = [spec.name for spec in PIPELINE]
STAGES_WITH_WEIGHTS = [spec.name for spec in PIPELINE if spec.weights]

Command = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What the command line said, checked in form but not yet resolved.

    Attributes: as the options of the same name; `model_step1` to `model_step3` are the weights of the
        three stages with a network, in their order; `json` prints the summary on standard output.
    """

    inputs: tuple[Path, ...]
    output: Path
    model_step1: Path | None = None
    model_step2: Path | None = None
    model_step3: Path | None = None
    from_stage: str | None = None
    to_stage: str | None = None
    force: bool = False
    only_case: tuple[str, ...] = ()
    dry_run: bool = False
    preset: str = "default"
    config: Path | None = None
    overrides: tuple[str, ...] = ()
    device: str | None = None
    backend: str | None = None
    keep: str | None = None
    series: str | None = None
    shard: tuple[int, int] | None = None
    export: tuple[str, ...] = ()
    json: bool = False

    def weights(self, family: str = DEFAULT_FAMILY) -> dict[str, Path]:
        """Stage name to weights: as given, else the family's shipped bundle."""
        given = (self.model_step1, self.model_step2, self.model_step3)
        return {
            name: tidy_path(path or default_bundle(name, family))
            for name, path in zip(STAGES_WITH_WEIGHTS, given, strict=True)
        }

    def run_config(self) -> RunConfig:
        """Resolve preset, file, --set, and the options that are settings of the driver.

        Raises:
            ConfigError: as `load_config`.
        """
        config = load_config(self.preset, self.config, self.overrides)
        chosen = {"device": self.device, "backend": self.backend, "keep": self.keep}
        chosen["dicom_series"] = self.series
        given = {key: value for key, value in chosen.items() if value is not None}
        driver = section_from_dict(DriverConfig, {**section_to_dict(config.driver), **given})
        return replace(config, driver=driver)

    def settings(self) -> RunSettings:
        """Return what the driver is asked to do.

        Raises:
            ConfigError: as `load_config`.
        """
        config = self.run_config()
        return RunSettings(
            output=tidy_path(self.output),
            inputs=self.inputs,
            config=config,
            weights=self.weights(config.driver.family),
            from_stage=self.from_stage,
            to_stage=self.to_stage,
            force=self.force,
            only_cases=self.only_case,
            shard=self.shard,
            dry_run=self.dry_run,
            exports=("flat",) if "flat" in self.export else (),
        )

    @property
    def other_exports(self) -> tuple[str, ...]:
        """Formats that are written after the run, by what `payerseg export` uses."""
        return tuple(name for name in self.export if name != "flat")


class ShardType(click.ParamType):
    """I/N with 1 <= I <= N."""

    name = "I/N"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        """Read "2/4"."""
        found = re.fullmatch(r"(\d{1,9})/(\d{1,9})", str(value))
        if not found or not 1 <= int(found[1]) <= int(found[2]):
            self.fail(f"{value!r} is no shard; expected I/N with 1 <= I <= N, e.g. 1/4", param, ctx)
        return int(found[1]), int(found[2])


class DeviceType(click.ParamType):
    """auto, cpu, gpu, gpu:N."""

    name = "auto|cpu|gpu[:N]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Check the form."""
        if not is_device(str(value)):
            self.fail(f"{value!r} is no device; expected {DEVICES}", param, ctx)
        return str(value)


def weights_options(command: Command) -> Command:
    """Add --model_step1, --model_step2 and --model_step3."""
    texts = ("spine localization", "vertebrae localization", "vertebrae segmentation")
    for step in (3, 2, 1):
        command = click.option(
            f"--model_step{step}",
            type=click.Path(path_type=Path),
            metavar="PATH",
            help=f"Weights of {texts[step - 1]}: bundle folder or checkpoint. [default: shipped]",
        )(command)
    return command


def config_options(command: Command) -> Command:
    """Add --preset, --config and --set."""
    for option in reversed(
        [
            click.option(
                "--preset",
                default="default",
                show_default=True,
                help="Packaged settings to start from.",
            ),
            click.option(
                "--config",
                type=click.Path(exists=True, dir_okay=False, path_type=Path),
                help="Your settings, TOML.",
            ),
            click.option(
                "--set",
                "overrides",
                multiple=True,
                metavar="SECTION.KEY=VALUE",
                help="One setting; may be repeated. See docs/config.md.",
            ),
        ]
    ):
        command = option(command)
    return command


def choice_options(command: Command) -> Command:
    """Add the options that say which cases and stages are done, and how."""
    stage, path = click.Choice(STAGE_NAMES), click.Choice(KEEP_LEVELS)
    for option in reversed(
        [
            click.option(
                "--from-stage", type=stage, help="First stage to run. [default: the first]"
            ),
            click.option("--to-stage", type=stage, help="Last stage to run. [default: the last]"),
            click.option("--force", is_flag=True, help="Run even what is fresh."),
            click.option(
                "--only-case", multiple=True, metavar="ID", help="Only this case; repeatable."
            ),
            click.option(
                "--dry-run", is_flag=True, help="Say what would be done and why; run nothing."
            ),
            click.option("--device", type=DeviceType(), help="Where networks run. [default: auto]"),
            click.option(
                "--backend",
                type=click.Choice(BACKENDS),
                help="Engine under Keras. [default: tensorflow]",
            ),
            click.option("--keep", type=path, help="Which intermediates stay. [default: standard]"),
            click.option(
                "--series",
                metavar="best|all|WHICH",
                help="DICOM input: which series; number, UID or part of the description. "
                "[default: best]",
            ),
            click.option("--shard", type=ShardType(), help="Do the I-th of N parts of the cases."),
            click.option(
                "--export",
                multiple=True,
                type=click.Choice([*FORMATS, ALL]),
                help="Also write the results in this format; repeatable. flat: in OUT/flat, "
                "{name}_segmentation.nii.gz and {name}_landmarks.csv/.json; others, or all, as "
                "'payerseg export' does, in OUT_export.",
            ),
            click.option(
                "--json", is_flag=True, help="Print a machine-readable summary on stdout."
            ),
        ]
    ):
        command = option(command)
    return command


def as_run_options(action: Callable[[RunOptions], int]) -> Command:
    """Give a command its options as one `RunOptions`."""

    @functools.wraps(action)
    def command(**options: Any) -> int:
        return action(RunOptions(**options))

    return command


DEFAULT_PRESET = "default"


def earlier_settings(output: Path, options: Mapping[str, Any]) -> RunSettings:
    """Return the last run's settings with the given ones on top.

    Args:
        output: folder of earlier results.
        options: values of `config_options`, and where the command has them of `weights_options`,
            "device" and "keep". A preset or a file replaces the last run's settings as a whole.

    Raises:
        UsageError: the folder holds no earlier run.
        ConfigError: a setting cannot be used.
    """
    settings = remembered_settings(tidy_path(output))
    config = settings.config
    if options["preset"] != DEFAULT_PRESET or options["config"] is not None:
        config = load_config(options["preset"], options["config"])
    chosen = [f"driver.{key}={options[key]}" for key in ("device", "keep") if options.get(key)]
    config = with_overrides(config, [*options["overrides"], *chosen])
    weights = dict(settings.weights)
    family = config.driver.family
    if family != settings.config.driver.family:
        weights = {name: default_bundle(name, family) for name in STAGES_WITH_WEIGHTS}
    given = {
        name: tidy_path(options[f"model_step{step}"])
        for step, name in enumerate(STAGES_WITH_WEIGHTS, start=1)
        if options.get(f"model_step{step}")
    }
    return replace(settings, config=config, weights={**weights, **given})


@click.command()
@click.argument("inputs", nargs=-1, required=True, metavar="IN...", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    "--output_folder",
    "output",
    required=True,
    metavar="OUT",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where one folder per scan is written.",
)
@weights_options
@choice_options
@config_options
@as_run_options
def run(options: RunOptions) -> int:
    """Segment the spine in scans: files (.nii, .nii.gz, .mha, .mhd, .nrrd) or folders of them, and DICOM.

    DICOM may be a folder tree, a zip or a file; one series per study is taken, see --series and
    'payerseg dicom list'.

    The same command again continues where it was interrupted; what is fresh is not done twice.

    Exit codes: 0 all done, 1 a bug, 2 usage or configuration, 3 some scans failed, 130 interrupted.
    """
    return run_from_options(options)


def run_from_options(options: RunOptions) -> int:
    """Run the pipeline as asked for and return the exit code.

    Raises:
        PayersegError: nothing could be begun.
    """
    exit_code = run_settings(options.settings(), json=options.json)
    if options.other_exports and not options.dry_run:
        exported = write_formats(
            Export(options.output),
            options.other_exports,
            tell=lambda line: click.echo(line, err=True),
        )
        return exit_code or exported
    return exit_code


def run_settings(settings: RunSettings, *, json: bool) -> int:
    """Run the pipeline; lines for people go to standard error, with `json` the summary to stdout."""
    listener = choose_listener(Console(sys.stderr), sys.stderr)
    summary = run_pipeline(settings, listener)
    if json:
        click.echo(summary.to_json(), nl=False)
    return int(summary.exit_code)
