"""Three fake stages (tests/protocol/fake_stages): copy, derive (editable), count."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

FAKES = Path(__file__).resolve().parents[1] / "protocol"


@pytest.fixture
def bench(tmp_path, monkeypatch):
    """The bench with the long pipeline and one scan, "one"."""
    monkeypatch.syspath_prepend(FAKES)
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join([str(FAKES), os.environ.get("PYTHONPATH", "")])
    )
    from fake_stages.bench import Bench
    from fake_stages.fake_catalog import LONG_PIPELINE

    bench = Bench(tmp_path, LONG_PIPELINE)
    bench.scans(a="one")
    yield bench
    for name in [name for name in sys.modules if name.startswith("fake_stages")]:
        del sys.modules[name]
