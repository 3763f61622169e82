"""An installed wheel works from any folder: stages, presets and weights are inside it."""

import os
import subprocess
import sys
import zipfile

import pytest


@pytest.fixture(scope="module")
def installed(repository, tmp_path_factory):
    """Build the wheel of a copy of the tracked files and unpack it, as pip would install it."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(["git", "clone", "-q", str(repository), folder / "clone"], check=True)
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "-w",
        folder,
        folder / "clone",
    ]
    built = subprocess.run([str(c) for c in command], capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr[-2000:]
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        wheel.extractall(folder / "site")
    return folder / "site"


def run_installed(site, *arguments):
    environment = {**os.environ, "PYTHONPATH": str(site), "PYTHONSAFEPATH": "1"}
    return subprocess.run(
        [sys.executable, "-m", "payerseg", *map(str, arguments)],
        cwd=site.parent,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_a_wheel_holds_everything(installed, repository):
    tracked = subprocess.run(
        ["git", "ls-files", "model_weights", "payerseg"],
        cwd=repository,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    for name in tracked:
        if not name.endswith((".py", ".md")):
            place = installed if name.startswith("payerseg/") else installed / "payerseg"
            assert (place / name).is_file(), name
    assert (installed / "stages" / "preparation.py").is_file()
    assert run_installed(installed, "config", "presets").stdout.split()


@pytest.mark.slow
def test_a_wheel_runs_its_own_stages(installed, good_scans, weights_flags, tmp_path):
    flags = ["-o", tmp_path / "out", *weights_flags, "--only-case", "lumbar"]
    done = run_installed(installed, "run", good_scans, *flags)
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / "out/lumbar/step3_vertebrae_segmentation/lumbar_seg.nii.gz").is_file()
