"""`payerseg train`: from a folder of scans to model bundles, in steps that can also be done alone."""

from __future__ import annotations

import functools
import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from payerseg.config.schema import BACKENDS, DriverConfig
from payerseg.config.training import (
    BUNDLES_FOLDER,
    LEVEL_NETWORK,
    LEVELS_PRESET,
    NETWORKS,
    TRAINING_PRESETS,
    Network,
    TrainingConfig,
    bundle_place,
    load_training_config,
)
from payerseg.errors import UsageError

FOLDER = click.Path(file_okay=False, path_type=Path)
EXISTING_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
STAGES: dict[str, tuple[Network, ...]] = {
    "1": NETWORKS[:1],
    "2": NETWORKS[1:2],
    "3": NETWORKS[2:],
    "levels": (LEVEL_NETWORK,),
    "all": (*NETWORKS, LEVEL_NETWORK),
}
LAYOUTS = ["auto", "simple", "verse", "catalog"]
CSV_SPACES = ["lps_mm", "ras_mm", "voxel"]
VERSE_FRAMES = ["auto", "subject", "iso_pir", "iso_asl"]
PACK_FOLDER = "pack"
LINE_EVERY_S = 10.0
FEW = 5
EXIT_FOUND_ERRORS = 3
COUNT = click.IntRange(min=1)
SYMBOLS = {"error": "✗", "warning": "!", "note": "·"}

Command = Callable[..., Any]


READING_OPTIONS = (
    click.option(
        "--layout",
        type=click.Choice(LAYOUTS),
        default="auto",
        help="How the folder is laid out.",
    ),
    click.option(
        "--csv_space",
        type=click.Choice(CSV_SPACES),
        default="lps_mm",
        help="What X, Y, Z mean in landmarks/*.csv.",
    ),
    click.option(
        "--verse_frame",
        type=click.Choice(VERSE_FRAMES),
        default="auto",
        help="Frame of VerSe centroid lists; old ones without a direction may need it.",
    ),
    click.option(
        "--c1",
        type=click.Choice(["dens", "verse2020"]),
        help="Where the data set puts C1. [default: dens; verse2020 for a folder of that name]",
    ),
)


def reading_options(command: Command) -> Command:
    """Add the options that say how a data set is read."""
    return functools.reduce(
        lambda wrapped, option: option(wrapped), reversed(READING_OPTIONS), command
    )


FITTING_OPTIONS = (
    click.option(
        "--stage",
        type=click.Choice(list(STAGES)),
        default="all",
        show_default=True,
        help="1 = find the spine, 2 = find the vertebrae, levels = name what stage 2 found, "
        "3 = segment one vertebra.",
    ),
    click.option(
        "--preset",
        type=click.Choice(TRAINING_PRESETS),
        help="Recipe: network, losses, augmentation, schedule. [default: payer]",
    ),
    click.option("--epochs", type=COUNT, help="Passes over the data."),
    click.option("--iterations", type=COUNT, help="Optimiser steps; wins over --epochs."),
    click.option("--batch_size", type=COUNT, help="Examples per step."),
    click.option("--learning_rate", type=float, help="Highest learning rate."),
    click.option("--num_workers", type=COUNT, help="Threads that draw examples. [default: 1]"),
    click.option("--gpu", type=int, help="Number of the GPU; -1 = processor. [default: auto]"),
    click.option(
        "--backend",
        type=click.Choice(BACKENDS),
        default="tensorflow",
        show_default=True,
        help="Engine under Keras.",
    ),
    click.option("--seed", type=click.IntRange(min=0), help="Of everything random."),
    click.option(
        "--fold",
        type=click.IntRange(min=0),
        help="Validate on this part of the patients (cross-validation), counted from 0.",
    ),
    click.option(
        "--initial_weights",
        type=EXISTING_FOLDER,
        help="Model bundle to start from (fine-tuning); with --stage all a folder that holds one "
        "for each network, as `weights` of a training or model_weights/. [default: random]",
    ),
    click.option(
        "--resume/--no-resume",
        default=None,
        help="Go on from the last checkpoint in the output folder. [default: resume]",
    ),
    click.option(
        "--config",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="TOML file with a [training] table.",
    ),
    click.option(
        "--set",
        "overrides",
        multiple=True,
        metavar="training.KEY=VALUE",
        help="One setting; repeatable. Wins over --config.",
    ),
)


def fitting_options(command: Command) -> Command:
    """Add the options of a training; their names are those of the PyTorch remake."""
    return functools.reduce(
        lambda wrapped, option: option(wrapped), reversed(FITTING_OPTIONS), command
    )


@click.group(invoke_without_command=True)
@click.option("--data_dir", type=EXISTING_FOLDER, help="Data set, or a pack made by `prepare`.")
@click.option("--output_dir", type=FOLDER, help="Folder of packs, checkpoints and bundles.")
@reading_options
@fitting_options
@click.pass_context
def train(ctx: click.Context, **options: Any) -> int:
    """Make networks from your own data: prepare, fit and export in one go.

    \b
    payerseg train check DATA
    payerseg train --data_dir DATA --output_dir OUT --stage all --epochs 100

    Killed at any moment, the same command goes on from the last checkpoint.
    """  # noqa: D301 (click reads the escape)
    if ctx.invoked_subcommand is not None:
        return 0
    if not options["data_dir"] or not options["output_dir"]:
        msg = "payerseg train needs --data_dir and --output_dir (or a subcommand; see --help)"
        raise UsageError(msg)
    data, output = options["data_dir"], options["output_dir"]
    pack = data if (data / "index.json").is_file() else output / PACK_FOLDER
    if pack != data and not (pack / "index.json").is_file():
        val_inputs = "val" if options["fold"] is None else "all"
        _prepare(data, pack, options, val_inputs)
    return _fit_all(pack, output, options)


@train.command()
@click.argument("data", type=EXISTING_FOLDER)
@click.option("-o", "--output", type=FOLDER, required=True, help="Pack to write or to add to.")
@click.option(
    "--preset",
    type=click.Choice(TRAINING_PRESETS),
    default="payer",
    show_default=True,
    help="Recipe whose spacings are packed.",
)
@click.option(
    "--stage", type=click.Choice(list(STAGES)), default="all", help="Networks to pack for."
)
@click.option(
    "--group", default="real", show_default=True, help="Name of these cases' group of draws."
)
@click.option(
    "--val_inputs",
    type=click.Choice(["val", "all", "none"]),
    default="val",
    show_default=True,
    help="Cases whose exact network inputs are packed; all is needed for --fold.",
)
@reading_options
def prepare(data: Path, output: Path, val_inputs: str, **options: Any) -> None:
    """Pack the data set DATA into arrays, so that fitting needs no image library."""
    _prepare(data, output, options, val_inputs)


@train.command()
@click.argument("pack", type=EXISTING_FOLDER)
@click.option("-o", "--output_dir", type=FOLDER, required=True, help="Folder of trainings.")
@fitting_options
def fit(pack: Path, output_dir: Path, **options: Any) -> int:
    """Train on a PACK made by `prepare`, each network in a process of its own."""
    return _fit_all(pack, output_dir, options)


@train.command()
@click.argument("data", type=EXISTING_FOLDER)
@reading_options
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
@click.option("--strict", is_flag=True, help="Warnings count as errors.")
def check(data: Path, as_json: bool, strict: bool, **options: Any) -> int:
    """Look over the data set DATA before training on it.

    Exit code 3 where there are errors: grids that differ, marks outside their mask, skipped or doubled
    levels, mirrored or empty masks, labels out of range, one patient on both sides.
    """
    from payerseg.datasets.discover import discover
    from payerseg.training.check import check_dataset

    dataset = discover(data, options["layout"])
    findings = check_dataset(dataset, _rules(options), None if as_json else _counted("checking"))
    counts = {s: sum(f.severity == s for f in findings) for s in SYMBOLS}
    if as_json:
        rows = [
            {"severity": f.severity, "code": f.code, "case": f.case_id, "message": f.message}
            for f in findings
        ]
        report = {"layout": dataset.layout, "cases": len(dataset.cases), **counts}
        click.echo(json.dumps({**report, "findings": rows}, indent=1))
    else:
        for f in findings:
            place = f"{f.case_id}: " if f.case_id else ""
            click.echo(f"{SYMBOLS[f.severity]} {place}{f.message} [{f.code}]")
        summary = ", ".join(f"{n} {name}(s)" for name, n in counts.items())
        click.echo(f"{len(dataset.cases)} cases ({dataset.layout} layout): {summary}")
    bad = counts["error"] or (strict and counts["warning"])
    return EXIT_FOUND_ERRORS if bad else 0


@train.command()
@click.argument("training", type=EXISTING_FOLDER)
@click.option("-o", "--output", type=FOLDER, required=True, help="Bundle folder to write.")
@click.option("--notes", default="", help="What a user of the weights must know; on the card.")
@click.option(
    "--weights",
    "weights_dtype",
    type=click.Choice(["float16", "float32"]),
    default="float16",
    show_default=True,
    help="How weights are stored.",
)
@click.option(
    "--average_with",
    type=EXISTING_FOLDER,
    help="The bundle of --initial_weights: write the mean of its weights and the new ones.",
)
def export(
    training: Path, output: Path, notes: str, weights_dtype: str, average_with: Path | None
) -> None:
    """Write the best weights of a TRAINING as a model bundle with its card."""
    from payerseg.training.export import export_bundle

    export_bundle(
        training,
        output,
        notes=notes,
        weights_dtype=weights_dtype,  # type: ignore[arg-type]
        average_with=average_with,
    )
    click.echo(f"wrote {output}", err=True)


@train.command()
@click.argument("data", type=EXISTING_FOLDER)
@click.argument("results", type=EXISTING_FOLDER)
@click.option("-o", "--output", type=FOLDER, required=True, help="Data set to write.")
@reading_options
def adopt(data: Path, results: Path, output: Path, **options: Any) -> None:
    """Keep of RESULTS (of `payerseg run` on the scans of DATA) the masks worth training on.

    A mask is kept if it is whole, sure, denser than what surrounds it, as large as its neighbours' and
    near the position that DATA knows; a scan without known positions only if nothing in it asks for a
    review. Look at the masks, then `payerseg train prepare OUTPUT --group self-made`.
    """
    from payerseg.datasets.discover import discover
    from payerseg.training.adoption import adopt_results

    outcomes = adopt_results(
        discover(data, options["layout"]), results, output, rules=_rules(options),
        progress=_counted("looking at"),
    )  # fmt: skip
    for outcome in outcomes:
        doubts = (outcome.refused or {}).items()
        text = "; ".join(f"{vertebra.name} {doubt}" for vertebra, doubt in doubts)
        tail = f" (without {text})" if text else ""
        click.echo(f"{outcome.case_id}: {outcome.reason or f'{len(outcome.kept)} masks'}{tail}")
    kept = sum(len(outcome.kept) for outcome in outcomes)
    click.echo(f"kept {kept} masks of {len(outcomes)} cases in {output}", err=True)


def _prepare(data: Path, pack: Path, options: Mapping[str, Any], val_inputs: str) -> None:
    from payerseg.datasets.discover import discover
    from payerseg.training.pack import PackPlan, pack_dataset

    plan = PackPlan(
        folder=pack,
        preset=options["preset"] or "payer",
        networks=_networks(options["preset"] or LEVELS_PRESET, options["stage"]),
        group=options.get("group", "real"),
        rules=_rules(options),
        val_inputs=val_inputs,
    )
    report = pack_dataset(discover(data, options["layout"]), plan, _counted("packing"))
    by_reason: dict[str, list[str]] = {}
    for case_id, reason in report.skipped:
        by_reason.setdefault(reason, []).append(case_id)
    for reason, names in by_reason.items():
        more = f" and {len(names) - FEW} more" if len(names) > FEW else ""
        click.echo(f"left out: {', '.join(names[:FEW])}{more}: {reason}", err=True)
    per_network = {n: sum(item.network == n for item in report.items) for n in plan.networks}
    text = ", ".join(f"{count} for {name}" for name, count in per_network.items())
    click.echo(f"packed {text} into {pack}", err=True)


def _networks(preset: str, stage: str) -> tuple[Network, ...]:
    """Return the networks that a choice of --stage means: all that the preset has a recipe for."""
    asked = STAGES[stage]
    if stage != "all" or preset == LEVELS_PRESET:
        return asked
    return tuple(name for name in asked if name != LEVEL_NETWORK)


def _fit_all(pack: Path, output: Path, options: Mapping[str, Any]) -> int:
    from payerseg.driver.training import run_training

    # all of them first: what is refused for the last must not cost the hours of the others
    configs = {name: _training_config(pack, name, options) for name in STAGES[options["stage"]]}
    if options["stage"] == "all":
        configs = {n: c for n, c in configs.items() if n in _networks(c.preset, options["stage"])}
    for network, config in configs.items():
        end = run_training(config, _driver(options), output, _ProgressPrinter(network))
        if not end.ok:
            click.echo(f"error: {network}: {end.message}", err=True)
            return end.exit_code
        click.echo(f"wrote {output / BUNDLES_FOLDER / bundle_place(end.folder.name)}", err=True)
    return 0


def _training_config(pack: Path, network: str, options: Mapping[str, Any]) -> TrainingConfig:
    names = ("preset", "epochs", "iterations", "batch_size", "learning_rate", "num_workers")
    flags = {name: options[name] for name in (*names, "seed", "fold", "resume")}
    flags |= {"network": network, "pack": str(pack.absolute())}
    if options["initial_weights"] is not None:
        start = options["initial_weights"].absolute()
        own = start / bundle_place(network)
        flags["initial_weights"] = str(own if own.is_dir() else start)
    flags["command"] = " ".join(["payerseg", *sys.argv[1:]])
    return load_training_config(options["config"], options["overrides"], flags)


def _driver(options: Mapping[str, Any]) -> DriverConfig:
    gpu = options["gpu"]
    device = "auto" if gpu is None else "cpu" if gpu < 0 else f"gpu:{gpu}"
    return DriverConfig(device=device, backend=options["backend"])


def _rules(options: Mapping[str, Any]) -> Any:
    from payerseg.datasets.discover import ReadingRules

    return ReadingRules(
        csv_space=options["csv_space"], verse=options["verse_frame"], c1=options["c1"]
    )


def _counted(verb: str) -> Callable[..., None]:
    """Return a listener that shows a count on a terminal and nothing elsewhere."""

    def show(done: int, total: int, case_id: str = "") -> None:
        if sys.stderr.isatty():
            end = "\n" if done == total else ""
            click.echo(f"\r\x1b[2K{verb} {done}/{total} {case_id}{end}", nl=False, err=True)

    return show


class _ProgressPrinter:
    """Prints a training's progress: every validation, and a line every few seconds."""

    def __init__(self, network: str) -> None:
        from payerseg.driver.messages import EtaClock

        self._network = network
        self._clock = EtaClock()
        self._step, self._total = 0, 0
        self._last = 0.0
        click.echo(f"training {network}", err=True)

    def __call__(self, event: Mapping[str, Any]) -> None:
        if event["event"] == "progress":
            self._step, self._total = int(event["done"]), int(event["total"])
        elif event["event"] == "note" and event["key"] == "figures":
            self._figures(event["value"])

    def _figures(self, figures: Mapping[str, float]) -> None:
        from payerseg.driver.console import duration

        now = time.monotonic()
        if "loss" in figures and now - self._last < LINE_EVERY_S and self._step < self._total:
            return
        self._last = now
        left = self._clock.left_s(self._step, self._total)
        shown = " ".join(f"{key} {value:.4g}" for key, value in figures.items() if key != "step")
        ahead = f", about {duration(left)} left" if left else ""
        click.echo(f"  {self._network} {self._step}/{self._total} {shown}{ahead}", err=True)
