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
        (fails_with(ZeroDivisionError("x")), 1, "This is a bug in payerseg"),
    ],
)
def test_every_end_has_its_exit_code(action, code, said, capsys):
    assert run_guarded(command(action), []) == code
    out, err = capsys.readouterr()
    assert said in err
    assert out == ""


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
