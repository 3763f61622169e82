"""`payerseg doctor`: what is installed, what the machine can do, and whether the pipeline runs here."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator
from importlib import metadata, util
from pathlib import Path

import click

from payerseg.cli.sample import write_phantom
from payerseg.config.load import load_config
from payerseg.config.schema import BACKENDS
from payerseg.config.weights import check_weights, default_bundle, package_folder, programs_parent
from payerseg.driver.messages import Message, Notice, RunSummary
from payerseg.driver.run import run_pipeline
from payerseg.driver.settings import RunSettings
from payerseg.errors import PayersegError
from payerseg.stagekit.catalog import PIPELINE
from payerseg.version import __version__

LIBRARIES = (
    "numpy",
    "scipy",
    "msgspec",
    "pillow",
    "jinja2",
    "tensorboardX",
    "SimpleITK",
    "nibabel",
    "isal",
    "networkx",
    "pandas",
    "keras",
    "click",
)
EXTRAS = ("pydicom", "highdicom", "trimesh", "scikit-image")
CPU_FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "amx_tile")
CPU_INFO = Path("/proc/cpuinfo")
PROBLEM = "PROBLEM: "
EXIT_PROBLEM = 3
STDERR_FD = 2


@click.command()
@click.option("--no-self-test", is_flag=True, help="Look only; do not run the pipeline.")
def doctor(*, no_self_test: bool) -> int:
    """Check this installation.

    Prints versions, devices, what the processor can do and which files are used, then runs the whole
    pipeline in real processes on a small synthetic scan (less than a minute). Exit code 3 if something
    is wrong.
    """
    n_problems = 0
    for line in facts():
        click.echo(line)
        n_problems += line.startswith(PROBLEM)
    if not no_self_test:
        for line in self_test():
            click.echo(line)
            n_problems += line.startswith(PROBLEM)
    click.echo("all is well" if not n_problems else f"{n_problems} problem(s), see above")
    return EXIT_PROBLEM if n_problems else 0


def facts() -> Iterator[str]:
    """Yield one line per fact about this installation; a problem starts with `PROBLEM`."""
    yield f"payerseg {__version__} at {package_folder()}"
    yield f"python {platform.python_version()} at {sys.executable}, {platform.platform()}"
    yield from _versions()
    yield from _machine()
    yield from _stages()
    yield from _weights()


def self_test() -> Iterator[str]:
    """Run the pipeline on a small phantom and yield what happened."""
    with tempfile.TemporaryDirectory(prefix="payerseg-doctor-") as name:
        scan = Path(name) / "phantom.nii.gz"
        try:
            write_phantom(scan, seed=0, small=True)
            summary = run_pipeline(_self_test_settings(scan, Path(name) / "out"), _only_notices)
        except PayersegError as error:
            yield f"{PROBLEM}self-test could not begin: {error}"
            return
        yield from _describe_self_test(summary)


def _self_test_settings(scan: Path, output: Path) -> RunSettings:
    weights = {spec.name: default_bundle(spec.name) for spec in PIPELINE if spec.weights}
    return RunSettings(output=output, inputs=(scan,), config=load_config(), weights=weights)


def _only_notices(message: Message) -> None:
    if isinstance(message, Notice):
        click.echo(message.text, err=True)


def _describe_self_test(summary: RunSummary) -> Iterator[str]:
    for case in summary.cases:
        for stage, outcome in case.stages.items():
            yield f"  {stage}: {outcome.state} in {outcome.seconds:.1f} s"
        mark = "" if case.status in ("ok", "ok_needs_review") else PROBLEM
        detail = f" ({case.message})" if case.message else ""
        yield f"{mark}self-test: {case.status} after {summary.seconds:.0f} s{detail}"


def _versions() -> Iterator[str]:
    found = {name: _version(name) for name in (*LIBRARIES, *BACKENDS, *EXTRAS)}
    missing = [name for name in LIBRARIES if found[name] is None]
    yield "libraries: " + ", ".join(
        f"{name} {version}" for name, version in found.items() if version
    )
    absent = [name for name in (*BACKENDS, *EXTRAS) if found[name] is None]
    if absent:
        yield f"not installed, only needed for extras: {', '.join(absent)}"
    if missing:
        yield f"{PROBLEM}missing: {', '.join(missing)}; install them with pip"
    if not any(found[name] for name in BACKENDS):
        yield f"{PROBLEM}no engine under Keras; install tensorflow, torch or jax with pip"


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _machine() -> Iterator[str]:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    free = shutil.disk_usage(tempfile.gettempdir()).free / 1e9
    yield (
        f"{os.cpu_count()} cores, {memory:.0f} GB of memory, {free:.0f} GB free at "
        f"{tempfile.gettempdir()}"
    )
    flags = processor_flags()
    if flags is not None:
        shown = ", ".join(f"{flag} {'yes' if flag in flags else 'no'}" for flag in CPU_FLAGS)
        yield f"processor: {shown}"
    yield _device()


def processor_flags() -> set[str] | None:
    """Return the processor's features as Linux names them; None where they are not told."""
    if not CPU_INFO.is_file():
        return None
    lines = CPU_INFO.read_text(encoding="utf-8", errors="replace").splitlines()
    first = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return set(first.partition(":")[2].split())


def _device() -> str:
    with native_messages_kept_back():  # the engine's greetings are not for people
        from payerseg.inference.device import describe_device

        found = describe_device()
    where = (
        f"{found['gpus']} GPU(s)" if found["gpus"] else f"the processor's {found['cores']} cores"
    )
    return f"networks run by {found['backend']} on {where}, in {found['precision']}"


@contextlib.contextmanager
def native_messages_kept_back() -> Iterator[None]:
    """Keep what is written to file descriptor 2 off the screen; it is shown if an error is raised.

    TensorFlow greets before its log level counts, so TF_CPP_MIN_LOG_LEVEL cannot silence it.
    """
    sys.stderr.flush()
    screen = os.dup(STDERR_FD)
    with tempfile.TemporaryFile() as heard:
        os.dup2(heard.fileno(), STDERR_FD)
        failed = True
        try:
            yield
            failed = False
        finally:
            sys.stderr.flush()
            os.dup2(screen, STDERR_FD)
            os.close(screen)
            if failed:
                heard.seek(0)
                os.write(STDERR_FD, heard.read())


def _stages() -> Iterator[str]:
    expected = programs_parent() / "stages"
    yield f"stages that the driver starts: {expected}"
    if not (expected / "__init__.py").is_file():
        yield f"{PROBLEM}no stages at {expected}; install payerseg again"
    found = util.find_spec("stages")
    origin = Path(found.origin).parent if found and found.origin else None
    if origin and origin != expected:
        yield f"another package called stages is at {origin}; the driver's processes do not use it"


def _weights() -> Iterator[str]:
    for spec in PIPELINE:
        if not spec.weights:
            continue
        path = default_bundle(spec.name)
        try:
            check_weights(path, spec.name)
        except PayersegError as error:
            yield f"{PROBLEM}weights of {spec.name}: {error}"
        else:
            yield f"weights of {spec.name}: {path}"
