"""A disk that is full from the start, or becomes so: told, nothing lost, and the same command goes on."""

import shutil
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow
SCANS = {"a": "one", "b": "extra", "c": "review", "d": "four"}
DRIVER = """
import sys
from pathlib import Path
import click
from fake_stages.bench import Bench
from fake_stages.fake_catalog import LONG_PIPELINE
from payerseg.cli.app import run_guarded
bench = object.__new__(Bench)
bench.inputs, bench.output, bench.pipeline = Path(sys.argv[1]), Path(sys.argv[2]), LONG_PIPELINE
def run():
    summary = bench.run()
    print(*(case.message for case in summary.cases), *summary.notices, sep="\\n")
    return int(summary.exit_code)
raise SystemExit(run_guarded(click.Command("run", callback=run), []))
"""
ON_SMALL_DISK = """
size=$1; disk=$2; kept=$3; shift 3
mount -t tmpfs -o size="$size" tmpfs "$disk" || exit 99
"$@"; code=$?
cp -a "$disk/." "$kept" && exit $code
"""


ON_READ_ONLY_DISK = """
mount --bind "$1" "$1" && mount -o remount,ro,bind "$1" || exit 99
shift; "$@"
"""


def run_on_small_disk(size, disk, kept, *command):
    """Run a command while `disk` is a disk of that size; what it leaves there is copied to `kept`."""
    for folder in (disk, kept):
        folder.mkdir()
    return run_with_mount(ON_SMALL_DISK, size, disk, kept, *command)


def run_with_mount(script, *arguments):
    """Run a script that mounts something nobody else sees; return its exit code and what it said."""
    if shutil.which("unshare") is None:
        pytest.skip("there is no unshare to mount a disk with")
    command = ["unshare", "-Urm", "sh", "-c", script, "sh", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode in (1, 99) and "not permitted" in done.stderr:
        pytest.skip(f"no disk can be mounted here: {done.stderr}")
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def long_bench(bench):
    from fake_stages.fake_catalog import LONG_PIPELINE

    bench.pipeline = LONG_PIPELINE
    bench.scans(**SCANS)
    return bench


@pytest.mark.parametrize("size", ["4k", "16k", "32k", "64k", "96k", "112k", "128k"])
def test_a_full_disk_is_told_and_costs_nothing(long_bench, tmp_path, size, record_property):
    bench = long_bench
    disk, kept = tmp_path / "disk", tmp_path / "kept"
    command = (sys.executable, "-c", DRIVER, bench.inputs, disk / "out")
    code, said = run_on_small_disk(size, disk, kept, *command)
    record_property("outcome", f"exit {code}")
    assert code in (2, 3), said
    assert "Traceback" not in said
    assert "full" in said
    if (kept / "out").is_dir():
        shutil.copytree(kept / "out", bench.output)
    assert bench.untruths() == []
    summary = bench.run()
    assert summary.exit_code == 0, summary.to_json()
    after = bench.artifacts()
    shutil.rmtree(bench.output)
    bench.run()
    assert after == bench.artifacts()


def test_the_whole_program_on_64_kb(tmp_path, repository, synthetic_spine, record_property):
    from payerseg.imaging.files import write_volume

    inputs = tmp_path / "in"
    inputs.mkdir()
    for name in ("a", "b"):
        write_volume(synthetic_spine().ct, inputs / f"{name}.nii.gz")
    disk = tmp_path / "disk"
    program = ("env", f"PYTHONPATH={repository}", sys.executable, "-m", "payerseg", "run", inputs)
    code, said = run_on_small_disk(
        "64k", disk, tmp_path / "kept", *program, "-o", disk, "--to-stage", "preparation"
    )
    record_property("outcome", f"exit {code}")
    assert code in (2, 3), said
    assert "Traceback" not in said
    assert "full" in said


def test_results_that_may_only_be_read(long_bench, repository):
    bench = long_bench
    bench.run()
    before = bench.artifacts()
    command = (sys.executable, "-c", DRIVER, bench.inputs, bench.output)
    code, said = run_with_mount(ON_READ_ONLY_DISK, bench.output, *command)
    assert (code, "cannot write to" in said) == (2, True), said
    program = ("env", f"PYTHONPATH={repository}", sys.executable, "-m", "payerseg")
    for words, expected in ((("status", bench.output), 0), (("report", bench.output), 2)):
        code, said = run_with_mount(ON_READ_ONLY_DISK, bench.output, *program, *words)
        assert code == expected, said
        assert "Traceback" not in said
    assert bench.artifacts() == before
