"""Environment and working directory of a stage process: set before it exists, never at import."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.util import find_spec

from payerseg.config.installation import programs_parent
from payerseg.config.schema import DriverConfig
from payerseg.errors import ConfigError

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "TF_NUM_INTRAOP_THREADS",
    "TF_NUM_INTEROP_THREADS",
    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS",
)


def child_environment(driver: DriverConfig, inherited: Mapping[str, str]) -> dict[str, str]:
    """Return a stage process's whole environment.

    Args:
        driver: device, backend, threads.
        inherited: the driver's own environment.
    """
    return {**inherited, **chosen_variables(driver, inherited)}


def chosen_variables(driver: DriverConfig, inherited: Mapping[str, str]) -> dict[str, str]:
    """Return only what we set; it is written to run.json."""
    # Our folder first, as `stages` is a name that other packages use too; named in PYTHONPATH, as the
    # working directory alone is not searched under PYTHONSAFEPATH.
    path = os.pathsep.join(filter(None, (str(programs_parent()), inherited.get("PYTHONPATH", ""))))
    chosen = {
        "PYTHONPATH": path,
        "PYTHONUTF8": "1",
        "PYTHONUNBUFFERED": "1",
        "PYTHONHASHSEED": "0",  # same order of sets, same bytes
        "KERAS_BACKEND": driver.backend,
        "TF_CPP_MIN_LOG_LEVEL": inherited.get("TF_CPP_MIN_LOG_LEVEL", "2"),
        "TF_FORCE_GPU_ALLOW_GROWTH": "true",
        "PAYERSEG_DEVICE": driver.device,
    }
    if driver.threads:
        chosen |= dict.fromkeys(THREAD_VARIABLES, str(driver.threads))
    return chosen | _device_variables(driver.device)


def check_backend(backend: str) -> None:
    """Refuse an engine that is not installed, before a process is started for nothing.

    Raises:
        ConfigError: says what to install.
    """
    if find_spec(backend) is None:
        extra = f"payerseg[{backend}]" if backend != "tensorflow" else "payerseg"
        msg = f"backend {backend} is not installed; run: pip install {extra!r}, or choose another"
        raise ConfigError(msg)


def _device_variables(device: str) -> dict[str, str]:
    number = device.partition(":")[2]
    if device == "cpu":
        return {"CUDA_VISIBLE_DEVICES": "-1", "JAX_PLATFORMS": "cpu"}
    return {"CUDA_VISIBLE_DEVICES": number} if number else {}
