"""What can be said of weights without opening them: stdlib only, for the driver to say it early.

Weights are a bundle (a folder with card and weights file) or a TensorFlow checkpoint, named by its
prefix. Whether every variable fits its network is `payerseg.networks.bundle`'s business.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from payerseg.config.model_card import CARD_FILE, LEVELS_FOLDER, WEIGHTS_FILE, ModelCard
from payerseg.config.training import LEVEL_NETWORK
from payerseg.errors import BundleError

WEIGHTS_FOLDER = "model_weights"
DEFAULT_FAMILY = "payer"


def package_folder() -> Path:
    """The folder of the library, `payerseg/`."""
    return Path(__file__).resolve().parents[1]


def programs_parent() -> Path:
    """The folder that holds `payerseg/` and its sibling `stages/`."""
    return package_folder().parent


def weights_folder() -> Path:
    """The folder with one default bundle per stage, and one folder of bundles per further family.

    In a clone it lies beside the library, in a wheel inside it (docs/adr/0011-weights-in-the-wheel.md).
    """
    shipped = package_folder() / WEIGHTS_FOLDER
    return shipped if shipped.is_dir() else programs_parent() / WEIGHTS_FOLDER


def default_bundle(stage: str, family: str = DEFAULT_FAMILY) -> Path:
    """The shipped weights of a stage; the folder may be absent."""
    folder = weights_folder()
    return folder / stage if family == DEFAULT_FAMILY else folder / family / stage


CHECKPOINT_INDEX_TAIL = bytes.fromhex("57fb808b247547db")
"""The last eight bytes of every checkpoint index (the magic number of LevelDB's tables)."""
CHUNK_BYTES = 1 << 20


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file, as lower-case hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def checkpoint_prefix(path: Path) -> Path | None:
    """Return the prefix of the checkpoint that `path` names, by itself or `.index`; else None."""
    if path.suffix == ".index" and os.path.isfile(path):
        path = path.with_suffix("")
    return path if os.path.isfile(f"{path}.index") else None


def read_checked_card(folder: Path, stage: str | None = None) -> ModelCard:
    """Read a bundle's card and check that the weights beside it are the ones it describes.

    Args:
        folder: the bundle.
        stage: name of the stage that wants it; None accepts any.

    Raises:
        BundleError: no card, a damaged one, another stage's, or other weights than the card's.
    """
    card = ModelCard.read(folder)
    if stage is not None and card.stage != stage:
        msg = f"{folder} holds weights for {card.stage}; expected {stage}: were two paths swapped?"
        raise BundleError(msg)
    weights = folder / WEIGHTS_FILE
    if not os.path.isfile(weights):
        msg = f"{folder} has a {CARD_FILE} but no {WEIGHTS_FILE}; copy the whole bundle folder"
        raise BundleError(msg)
    try:
        found = file_sha256(weights)
    except OSError as error:
        msg = f"{weights} cannot be read ({error.strerror}); check its permissions"
        raise BundleError(msg) from error
    if found != card.weights_sha256:
        msg = (
            f"{weights} ({weights.stat().st_size} bytes) has SHA-256 {found[:12]}…, its card says "
            f"{card.weights_sha256[:12] or 'nothing'}…; it is truncated, altered or from another "
            "bundle: copy the bundle again"
        )
        raise BundleError(msg)
    return card


def check_weights(path: Path, stage: str) -> None:
    """Refuse, before any work, weights that are missing, damaged, or another stage's.

    Args:
        path: a bundle folder or a checkpoint's prefix.
        stage: name of the stage that wants them.

    Raises:
        BundleError: with what was found, expected, and what to do.
    """
    prefix = checkpoint_prefix(path)
    if prefix is not None:
        _check_checkpoint(prefix)
    elif os.path.isdir(path):
        read_checked_card(path, stage)
        if (path / LEVELS_FOLDER).is_dir():
            read_checked_card(path / LEVELS_FOLDER, LEVEL_NETWORK)
    else:
        msg = (
            f"no weights at {path}; expected a bundle folder with {CARD_FILE} and {WEIGHTS_FILE}, "
            "or the prefix of a TensorFlow checkpoint (PREFIX.index and PREFIX.data-…)"
        )
        raise BundleError(msg)


def _check_checkpoint(prefix: Path) -> None:
    index = Path(f"{prefix}.index")
    try:
        with index.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - len(CHECKPOINT_INDEX_TAIL)))
            tail = file.read()
    except OSError as error:
        msg = f"{index} cannot be read ({error.strerror}); check its permissions"
        raise BundleError(msg) from error
    if tail != CHECKPOINT_INDEX_TAIL:
        msg = f"{index} is truncated or no checkpoint index; copy the checkpoint again"
        raise BundleError(msg)
    if not any(prefix.parent.glob(f"{prefix.name}.data-*-of-*")):
        msg = f"{index} has no data file beside it; copy all files of the checkpoint"
        raise BundleError(msg)
