"""Settings for commands that work on earlier results: as the last run, unless told otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from payerseg.cli.run_options import STAGES_WITH_WEIGHTS
from payerseg.config.installation import default_bundle
from payerseg.config.load import load_config, with_overrides
from payerseg.driver.inputs import tidy_path
from payerseg.driver.settings import RunSettings
from payerseg.driver.status import remembered_settings

DEFAULT_PRESET = "default"


def earlier_settings(output: Path, options: Mapping[str, Any]) -> RunSettings:
    """Return the last run's settings with the given ones on top.

    Args:
        output: folder of earlier results.
        options: values of `config_options`, and where the command has them of `weights_options`,
            "device" and "keep". A preset or a file replaces the last run's settings as a whole.

    Raises:
        UsageError: the folder holds no earlier run.
        ConfigError: a setting cannot be used.
    """
    settings = remembered_settings(tidy_path(output))
    config = settings.config
    if options["preset"] != DEFAULT_PRESET or options["config"] is not None:
        config = load_config(options["preset"], options["config"])
    chosen = [f"driver.{key}={options[key]}" for key in ("device", "keep") if options.get(key)]
    config = with_overrides(config, [*options["overrides"], *chosen])
    weights = dict(settings.weights)
    family = config.driver.family
    if family != settings.config.driver.family:
        weights = {name: default_bundle(name, family) for name in STAGES_WITH_WEIGHTS}
    given = {
        name: tidy_path(options[f"model_step{step}"])
        for step, name in enumerate(STAGES_WITH_WEIGHTS, start=1)
        if options.get(f"model_step{step}")
    }
    return replace(settings, config=config, weights={**weights, **given})
