import os
import tomllib
from pathlib import Path

import pytest

from payerseg.cli import doctor
from payerseg.cli.app import payerseg, run_guarded
from payerseg.driver.messages import RunSummary
from payerseg.errors import UsageError
from payerseg.results.status import CaseSummary, StageOutcome, StageState


@pytest.fixture(autouse=True)
def light(monkeypatch):
    """Ask no engine for its devices: that takes seconds and is tested with the engine."""
    monkeypatch.setattr(doctor, "_device", lambda: "networks run by nobody")


def test_facts_name_versions_places_and_the_processor():
    text = "\n".join(doctor.facts())
    assert "python 3." in text
    assert "SimpleITK" in text
    assert "stages that the driver starts" in text
    assert "cores" in text


def test_every_dependency_is_looked_for(repository):
    wanted = tomllib.loads((repository / "pyproject.toml").read_text())["project"]["dependencies"]
    names = {text.partition(">=")[0] for text in wanted}
    assert names == {*doctor.LIBRARIES, "tensorflow"}


def fail_to_load():
    os.write(2, b"cannot load libcuda")
    raise ImportError


def test_greetings_of_native_code_are_kept_back_but_not_where_something_fails(capfd):
    with doctor.native_messages_kept_back():
        os.write(2, b"I0000 oneDNN custom operations are on")
    os.write(2, b"after")
    assert capfd.readouterr().err == "after"
    with pytest.raises(ImportError), doctor.native_messages_kept_back():
        fail_to_load()
    assert capfd.readouterr().err == "cannot load libcuda"


def test_missing_weights_are_a_problem(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(doctor, "default_bundle", lambda stage: tmp_path / stage)
    assert run_guarded(payerseg, ["doctor", "--no-self-test"]) == 3
    out = capsys.readouterr().out
    assert "PROBLEM: weights of spine_localization: no weights at" in out
    assert "3 problem(s)" in out


def test_a_missing_library_is_a_problem(monkeypatch):
    known = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda name: None if name == "isal" else known(name))
    assert any(line.startswith("PROBLEM: missing: isal") for line in doctor.facts())


@pytest.mark.parametrize(
    ("text", "flags"),
    [
        ("processor : 0\nflags\t\t: fpu avx2 amx_bf16\n", {"fpu", "avx2", "amx_bf16"}),
        ("Features : asimd bf16\n", {"asimd", "bf16"}),
        ("nothing of the kind\n", set()),
    ],
)
def test_processor_flags(text, flags, tmp_path, monkeypatch):
    (tmp_path / "cpuinfo").write_text(text)
    monkeypatch.setattr(doctor, "CPU_INFO", tmp_path / "cpuinfo")
    assert doctor.processor_flags() == flags


def test_elsewhere_than_linux_flags_are_unknown(monkeypatch):
    monkeypatch.setattr(doctor, "CPU_INFO", Path("/nowhere/cpuinfo"))
    assert doctor.processor_flags() is None


@pytest.mark.parametrize(
    ("status", "is_problem"),
    [("ok", False), ("ok_needs_review", False), ("no_spine", True), ("failed_x_bug", True)],
)
def test_the_self_test_must_find_a_spine(status, is_problem):
    stages = {"preparation": StageOutcome(StageState.DONE, seconds=1.0)}
    case = CaseSummary("phantom", status, "because", None, stages)
    lines = list(doctor._describe_self_test(RunSummary("r", Path(), (case,), 0, 20.0)))
    assert "preparation: done in 1.0 s" in lines[0]
    assert lines[1].startswith("PROBLEM") == is_problem
    assert "because" in lines[1]


def test_a_self_test_that_cannot_begin_is_a_problem(monkeypatch):
    def write_phantom(*_arguments, **_options):
        msg = "no disk"
        raise UsageError(msg)

    monkeypatch.setattr(doctor, "write_phantom", write_phantom)
    assert list(doctor.self_test()) == ["PROBLEM: self-test could not begin: no disk"]
