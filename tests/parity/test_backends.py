"""One network, three backends: same weights, same input → same output, same training step."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

GATE = 1e-4
PROGRAM = Path(__file__).with_name("backend_outputs.py")
RECORDED = Path(__file__).parents[1] / "golden" / "data" / "backend_outputs.npz"


@pytest.fixture(scope="module", params=["tensorflow", "torch", "jax"])
def found(request, tmp_path_factory, repository):
    """The outputs of one backend, computed in its own process."""
    if find_spec(request.param) is None:
        pytest.skip(f"{request.param} is not installed: pip install payerseg[{request.param}]")
    target = tmp_path_factory.mktemp(request.param) / "found.npz"
    environment = {
        **os.environ,
        "KERAS_BACKEND": request.param,
        "PYTHONPATH": str(repository),
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    command = [sys.executable, str(PROGRAM), str(target)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    arrays = np.load(target)
    assert arrays["backend"] == request.param
    return arrays


def recorded(kind):
    return [key for key in np.load(RECORDED).files if key.endswith(kind)]


@pytest.mark.backend
@pytest.mark.parametrize("key", recorded("/whole") + recorded("/tiled"))
def test_same_output(found, key):
    np.testing.assert_allclose(found[key], np.load(RECORDED)[key], atol=GATE)


@pytest.mark.backend
@pytest.mark.parametrize("key", recorded("/losses"))
def test_same_loss_before_and_after_one_step(found, key):
    before, after = np.load(RECORDED)[key]
    assert after != before
    np.testing.assert_allclose(found[key], [before, after], atol=GATE)
