"""Fake stages for the real driver."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent


@pytest.fixture
def bench(tmp_path, monkeypatch):
    """Two fake stages, found by spawned processes too."""
    monkeypatch.syspath_prepend(HERE)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")]))
    from fake_stages.bench import Bench

    yield Bench(tmp_path)
    for name in [name for name in sys.modules if name.startswith("fake_stages")]:
        del sys.modules[name]
