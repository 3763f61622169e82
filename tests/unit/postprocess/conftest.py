"""The simulated network of the decoder benchmark, for tests of the decoder."""

import importlib.util
import sys

import pytest


@pytest.fixture(scope="session")
def simulator(repository):
    """The module benchmarks/spine_simulator.py."""
    file = repository / "benchmarks" / "spine_simulator.py"
    spec = importlib.util.spec_from_file_location("spine_simulator", file)
    module = importlib.util.module_from_spec(spec)
    sys.modules["spine_simulator"] = module  # its dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module
