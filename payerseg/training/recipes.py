"""The table of recipes: preset and network to recipe."""

from __future__ import annotations

from collections.abc import Callable

from payerseg.config.training import Network, TrainingPreset
from payerseg.errors import ConfigError
from payerseg.training.recipe import LEVELS, STAGE1, STAGE2, STAGE3, Recipe
from payerseg.training.recipes_payer import (
    payer_levels,
    payer_stage1,
    payer_stage2,
    payer_stage3,
)
from payerseg.training.recipes_reference import (
    reference_stage1,
    reference_stage2,
    reference_stage3,
)
from payerseg.training.recipes_verse_pytorch import (
    pytorch_stage1,
    pytorch_stage2,
    pytorch_stage3,
)

_RECIPES: dict[tuple[str, str], Callable[[], Recipe]] = {
    ("payer", STAGE1): payer_stage1,
    ("payer", STAGE2): payer_stage2,
    ("payer", STAGE3): payer_stage3,
    ("payer", LEVELS): payer_levels,
    ("reference", STAGE1): reference_stage1,
    ("reference", STAGE2): reference_stage2,
    ("reference", STAGE3): reference_stage3,
    ("verse_pytorch", STAGE1): pytorch_stage1,
    ("verse_pytorch", STAGE2): pytorch_stage2,
    ("verse_pytorch", STAGE3): pytorch_stage3,
}


def recipe_for(preset: TrainingPreset, network: Network) -> Recipe:
    """Return the recipe of a preset for one network.

    Raises:
        ConfigError: there is none.
    """
    key = (preset, network)
    if key not in _RECIPES:
        msg = f"there is no recipe for {network} in preset {preset}; known are {sorted(_RECIPES)}"
        raise ConfigError(msg)
    return _RECIPES[key]()
