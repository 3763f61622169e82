"""The real driver over a pipeline of fake stages, with timers in tenths of seconds."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from payerseg.config.schema import DriverConfig, RunConfig
from payerseg.driver.run import run_pipeline
from payerseg.driver.settings import RunSettings

HERE = Path(__file__).resolve().parent
QUICK = DriverConfig(
    heartbeat_s=0.1, startup_s=30.0, silence_s=20.0, case_s=20.0, grace_s=0.5, keep="all"
)


@pytest.fixture(scope="session")
def fake_pipeline():
    """The stages copy and behave."""
    sys.path.insert(0, str(HERE))
    try:
        from fake_stages.fake_catalog import PIPELINE
    finally:
        sys.path.remove(str(HERE))
    return PIPELINE


@pytest.fixture
def fake_programs(monkeypatch):
    """Let spawned processes find the fake stages."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")]))


class Bench:
    """A folder of scans that are texts, and the command to run over it."""

    def __init__(self, root, pipeline):
        self.inputs, self.output, self.pipeline = root / "in", root / "out", pipeline
        self.inputs.mkdir()
        self.messages = []

    def scans(self, **texts):
        """Write scans; the text says how the second stage behaves."""
        for case_id, text in texts.items():
            (self.inputs / f"{case_id}.nii").write_text(text)

    def settings(self, driver=None, **changes):
        config = RunConfig(driver=replace(QUICK, **(driver or {})))
        settings = RunSettings(
            self.output, (self.inputs,), config, pipeline=self.pipeline
        )
        return replace(settings, **changes)

    def run(self, driver=None, **changes):
        self.messages = []
        return run_pipeline(self.settings(driver, **changes), self.messages.append)

    def statuses(self, summary):
        return {case.case_id: case.status for case in summary.cases}

    def artifacts(self):
        """Every artifact's content, by its path."""
        return {
            str(path.relative_to(self.output)): path.read_bytes()
            for path in sorted(self.output.glob("*/step*/**/*"))
            if path.is_file() and path.name != "manifest.json"
        }

    def stage_states(self, summary, stage):
        return {case.case_id: str(case.stages[stage].state) for case in summary.cases}


@pytest.fixture
def bench(tmp_path, fake_pipeline, fake_programs):
    return Bench(tmp_path, fake_pipeline)
