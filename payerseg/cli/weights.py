"""`payerseg weights`: what weights are here, whether they are sound, and importing others'."""

from __future__ import annotations

from pathlib import Path

import click

from payerseg.cli.doctor import native_messages_kept_back
from payerseg.config.model_card import CARD_FILE, LevelNetSpec, ModelCard, SCNetSpec
from payerseg.config.weights import checkpoint_prefix, read_checked_card, weights_folder
from payerseg.errors import BundleError, PayersegError, UsageError
from payerseg.stagekit.catalog import PIPELINE

STAGES = tuple(spec.name for spec in PIPELINE if spec.weights)
EXIT_PROBLEM = 3

stage_option = click.option(
    "--stage", type=click.Choice(STAGES), help="Stage that the weights are for."
)


@click.group()
def weights() -> None:
    """List, verify and import weights."""


@weights.command("list")
@click.argument("folder", required=False, type=click.Path(file_okay=False, path_type=Path))
def list_bundles(*, folder: Path | None) -> int:
    """List the bundles in FOLDER (default: those of this installation).

    Reads cards and checks the weights against their checksums; `verify` also opens them. Exit code 3 if
    one is damaged.
    """
    folder = folder or weights_folder()
    found = bundles_in(folder)
    click.echo(f"{folder}: {len(found)} bundle(s)")
    n_problems = 0
    for path in found:
        try:
            click.echo(f"{_place(path, folder)}: {describe(read_checked_card(path))}")
        except BundleError as error:
            n_problems += 1
            click.echo(f"{_place(path, folder)}: PROBLEM: {error}")
    return EXIT_PROBLEM if n_problems else 0


@weights.command()
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@stage_option
@native_messages_kept_back()  # the engine's greetings are not for people
def verify(*, paths: tuple[Path, ...], stage: str | None) -> int:
    """Open weights as a stage would: card, checksum, and every variable's name, shape and values.

    PATHS are bundle folders or checkpoints (default: the bundles of this installation). A checkpoint
    needs --stage. Exit code 3 if one is not sound.
    """
    from payerseg.networks.bundle import ModelBundle

    n_problems = 0
    for path in paths or bundles_in(weights_folder()):
        try:
            bundle = ModelBundle.open(path, stage)
        except PayersegError as error:
            n_problems += 1
            click.echo(f"{path}: PROBLEM: {error}")
        else:
            count = sum(array.size for array in bundle.weights.values())
            click.echo(f"{path}: sound, {count:,} parameters; {describe(bundle.card)}")
    return EXIT_PROBLEM if n_problems else 0


@weights.command("import")
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option(
    "--stage", type=click.Choice(STAGES), required=True, help="Stage that it was trained for."
)
@click.option(
    "-o",
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    help="Bundle folder to write (default: CHECKPOINT.bundle).",
)
@click.option("--float16", is_flag=True, help="Store weights as float16: half the size.")
@click.option("--force", is_flag=True, help="Replace a bundle that is there already.")
@native_messages_kept_back()
def import_weights(
    *, checkpoint: Path, stage: str, output: Path | None, float16: bool, force: bool
) -> None:
    """Turn a TensorFlow checkpoint of the reference into a bundle.

    CHECKPOINT is the prefix (`ckpt-50000`, without `.index`). Every variable of the network must be there
    with the right shape; optimiser state is left behind. TensorFlow is not needed. Prints the folder.
    """
    from dataclasses import replace

    from payerseg.networks.bundle import ModelBundle, save

    prefix = checkpoint_prefix(checkpoint)
    if prefix is None:
        msg = f"{checkpoint}.index is missing; expected the prefix of a TensorFlow checkpoint"
        raise BundleError(msg)
    target = output or Path(f"{prefix}.bundle")
    if (target / CARD_FILE).exists() and not force:
        msg = f"{target} holds a bundle already; choose another --output, or --force to replace it"
        raise UsageError(msg)
    bundle = ModelBundle.open(prefix, stage)
    card = replace(bundle.card, weights_dtype="float16" if float16 else "float32")
    save(bundle.weights, card, target)
    click.echo(str(target))


def bundles_in(folder: Path) -> list[Path]:
    """Return the bundle folders in a folder, or the folder itself if it is one."""
    if (folder / CARD_FILE).is_file():
        return [folder]
    # one folder per stage, and one per further family with its stages
    found = [*folder.glob(f"*/{CARD_FILE}"), *folder.glob(f"*/*/{CARD_FILE}")]
    return sorted(card.parent for card in found)


def _place(bundle: Path, folder: Path) -> str:
    """Return a bundle's path below a folder, or its name where it is that folder."""
    return bundle.name if bundle == folder else bundle.relative_to(folder).as_posix()


def describe(card: ModelCard) -> str:
    """Return a card in one line."""
    network = card.network
    if isinstance(network, SCNetSpec):
        kind = f"SCN {_widths(network.local.widths)} + {_widths(network.spatial.widths)}"
    else:
        name = "level network" if isinstance(network, LevelNetSpec) else "U-Net"
        kind = f"{name} {_widths(network.widths)}"
    spacing = f"{card.sampling.spacing_mm:g} mm"
    stored = f"{card.weights_dtype}, sha256 {card.weights_sha256[:12]}"
    return f"{card.stage}, {card.family}, {kind}, {spacing}, {card.output}, {stored}"


def _widths(widths: tuple[int, ...]) -> str:
    return "-".join(str(width) for width in widths)
