import os
import subprocess
import sys

import click
import pytest

from payerseg.cli import app
from payerseg.cli.app import COMMANDS, load_command, run_guarded
from payerseg.errors import ConfigError


def command(action):
    @click.command()
    def act():
        return action()

    return act


def fails_with(error):
    def action():
        raise error

    return action


@pytest.mark.parametrize(
    ("action", "code", "said"),
    [
        (lambda: None, 0, ""),
        (lambda: 3, 3, ""),
        (fails_with(ConfigError("no such key")), 2, "error: no such key"),
        (fails_with(click.ClickException("cannot")), 2, "Error: cannot"),
        (fails_with(click.UsageError("misused")), 2, "misused"),
        (fails_with(KeyboardInterrupt()), 130, "interrupted"),
        (fails_with(PermissionError(13, "Permission denied", "/out")), 2, "denied: /out"),
        (fails_with(OSError("without a file")), 1, "This is a bug in payerseg"),
        (fails_with(FileNotFoundError(2, "No such file", "/x")), 1, "This is a bug in payerseg"),
        (fails_with(ZeroDivisionError("x")), 1, "This is a bug in payerseg"),
    ],
)
def test_every_end_has_its_exit_code(action, code, said, capsys):
    assert run_guarded(command(action), []) == code
    out, err = capsys.readouterr()
    assert said in err
    assert out == ""


MAIN = "from payerseg.cli.app import main; main()"


def test_a_reader_that_leaves_changes_no_exit_code():
    """`payerseg config explain | head -1`, and a command that fails."""
    for arguments, code in ((["config", "explain"], 0), (["status", "/nowhere"], 2)):
        reading, writing = os.pipe()
        os.close(reading)
        command = [sys.executable, "-c", MAIN, *arguments]
        done = subprocess.run(command, stdout=writing, stderr=writing, check=False)
        os.close(writing)
        assert done.returncode == code


def test_an_encoding_without_our_letters_costs_the_letters_only():
    environment = {**os.environ, "PYTHONIOENCODING": "cp1252", "PYTHONUTF8": "0"}
    command = [sys.executable, "-c", MAIN, "config", "explain"]
    done = subprocess.run(command, capture_output=True, env=environment, check=True)
    assert b"\\u2265" in done.stdout
    assert done.stderr == b""


def test_unknown_option_is_a_usage_error(capsys):
    assert run_guarded(app.payerseg, ["run", "--bogus"]) == 2
    assert "--bogus" in capsys.readouterr().err


def test_version_and_help_need_no_command_module(capsys, monkeypatch):
    monkeypatch.setattr(app, "load_command", fails_with(AssertionError("imported a command")))
    assert run_guarded(app.payerseg, ["--version"]) == 0
    assert run_guarded(app.payerseg, ["--help"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in COMMANDS)


def test_a_missing_library_is_named_with_its_cure(monkeypatch):
    def import_module(_name):
        raise ModuleNotFoundError(name="pydicom")

    monkeypatch.setattr(app, "import_module", import_module)
    with pytest.raises(click.ClickException, match=r"needs the module .pydicom.*payerseg\[dicom\]"):
        load_command("dicom")
