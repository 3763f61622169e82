"""`payerseg`: the group of all commands, and how an error becomes an exit code.

Commands are imported when they are called: `payerseg --help` answers at once, and a part whose optional
libraries are missing hinders no other.
"""

from __future__ import annotations

import errno
import io
import os
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NoReturn

import click

from payerseg.errors import PayersegError
from payerseg.version import __version__

OF_THE_USERS_DISK = frozenset(
    getattr(errno, name)
    for name in (
        "EACCES",
        "EPERM",
        "EROFS",
        "ENOSPC",
        "EDQUOT",
        "ENAMETOOLONG",
        "ENOTDIR",
        "EISDIR",
        "ELOOP",
    )
    if hasattr(errno, name)
)
"""Errors of a named file that say how it lies there, not what we did wrong."""
EXIT_BUG, EXIT_REFUSED, EXIT_INTERRUPTED = 1, 2, 130

COMMANDS = {
    "run": ("payerseg.cli.run:run", "Segment the spine in scans, files or folders."),
    "status": ("payerseg.cli.status:status", "Say what is done, what is stale and why."),
    "stage": ("payerseg.cli.stage:stage", "Run one stage again on results at hand."),
    "report": ("payerseg.cli.report:report", "Write the page of a whole results folder."),
    "export": ("payerseg.cli.export:export", "Write results in other tools' formats."),
    "evaluate": ("payerseg.cli.evaluate:evaluate", "Score results against ground truth."),
    "train": ("payerseg.cli.train:train", "Make networks from your own data."),
    "synthesize": ("payerseg.cli.synthesize:synthesize", "Make labelled synthetic scans."),
    "dicom": ("payerseg.cli.dicom:dicom", "List and convert DICOM series."),
    "weights": ("payerseg.cli.weights:weights", "List, verify and import weights."),
    "config": ("payerseg.cli.config:config", "Show or explain the configuration."),
    "sample": ("payerseg.cli.sample:sample", "Fetch a real example scan, or make a phantom."),
    "doctor": ("payerseg.cli.doctor:doctor", "Check this installation."),
}


class LazyGroup(click.Group):
    """A group that imports a command's module only when the command is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of a user's day."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a command; None where the name is unknown."""
        del ctx
        if cmd_name not in COMMANDS:
            return None
        return load_command(cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


def load_command(name: str) -> click.Command:
    """Import one command.

    Raises:
        click.ClickException: a library that it needs is not installed; says how to install it.
    """
    module, _, attribute = COMMANDS[name][0].partition(":")
    try:
        return getattr(import_module(module), attribute)
    except ModuleNotFoundError as error:
        msg = f"'payerseg {name}' needs the module {error.name!r}, which is missing; {_cure(error.name)}"
        raise click.ClickException(msg) from error


def _cure(module: str | None) -> str:
    first = (module or "").split(".")[0]
    extras = {"pydicom": "dicom", "highdicom": "dicom", "trimesh": "mesh", "skimage": "mesh"}
    extras |= {"torch": "torch", "jax": "jax"}
    if first == "payerseg":
        return "this version of payerseg does not hold that command"
    target = f"payerseg[{extras[first]}]" if first in extras else first
    return f'install it with: pip install "{target}"'


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="payerseg")
def payerseg() -> None:
    r"""Find the spine in CT scans, name every vertebra, and segment each one.

    \b
    payerseg sample Data/sample
    payerseg run Data/sample -o Data/results

    Research software, not a medical device.
    """


def run_guarded(command: click.Command, arguments: Sequence[str] | None = None) -> int:
    """Run a command and return the exit code.

    0 all done · 1 a bug in payerseg · 2 usage or configuration · 3 some cases failed · 130 interrupted.
    """
    try:
        result = command.main(
            args=None if arguments is None else list(arguments), standalone_mode=False
        )
    except click.ClickException as error:
        error.show()
        return error.exit_code if error.exit_code != 1 else EXIT_REFUSED
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted; what is finished is kept, the same command continues", err=True)
        return EXIT_INTERRUPTED
    except PayersegError as error:
        click.echo(f"error: {error}", err=True)
        return EXIT_REFUSED
    except OSError as error:
        if error.errno not in OF_THE_USERS_DISK or error.filename is None:
            return _show_bug()
        click.echo(f"error: {error.strerror}: {error.filename}; nothing was lost", err=True)
        return EXIT_REFUSED
    except Exception:  # noqa: BLE001 (the seam: a bug becomes a message and an exit code)
        return _show_bug()
    return result if isinstance(result, int) else 0


def _show_bug() -> int:
    traceback.print_exc()
    click.echo("\nThis is a bug in payerseg; please report it with the lines above.", err=True)
    return EXIT_BUG


class _Output(io.FileIO):
    """A standard stream whose reader may leave, as `| head` does: what it no longer hears is dropped."""

    def write(self, data: Any) -> int:
        """Write, or drop, so that the exit code tells of the work and not of the reader."""
        try:
            return super().write(data) or 0
        except BrokenPipeError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            return len(data)


def forgive_readers() -> None:
    """Let standard output and error bear readers that leave, and letters that their encoding lacks."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # a program without a console
            continue
        stream.flush()
        raw = io.BufferedWriter(_Output(stream.fileno(), "w", closefd=False))
        kind = {"encoding": stream.encoding, "errors": "backslashreplace"}
        setattr(sys, name, io.TextIOWrapper(raw, line_buffering=stream.line_buffering, **kind))


def start(command: click.Command) -> NoReturn:
    """Be a program that is this command."""
    forgive_readers()
    raise SystemExit(run_guarded(command))


def main() -> NoReturn:
    """Entry point of the `payerseg` program."""
    start(payerseg)
