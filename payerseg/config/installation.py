"""Where this installation lies: programs and default weights, from a clone and from a wheel alike."""

from __future__ import annotations

from pathlib import Path

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
