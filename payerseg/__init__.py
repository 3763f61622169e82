"""payerseg: find the spine in CT scans, name every vertebra, and segment each one.

`payerseg.segment`, `payerseg.Pipeline`, `payerseg.Segmentation` and `payerseg.load_config` are loaded
when they are first used, so that `import payerseg` stays light.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from payerseg.api import Pipeline, Segmentation, segment
    from payerseg.config.load import load_config

__version__ = "0.1.0"
__all__ = ["Pipeline", "Segmentation", "__version__", "load_config", "segment"]

_LAZY = {
    "Pipeline": "payerseg.api",
    "Segmentation": "payerseg.api",
    "segment": "payerseg.api",
    "load_config": "payerseg.config.load",
}


def __getattr__(name: str) -> Any:
    """Load a public name on its first use."""
    if name not in _LAZY:
        msg = f"module 'payerseg' has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    """List what can be used."""
    return sorted(__all__)
