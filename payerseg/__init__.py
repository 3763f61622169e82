"""payerseg: find the spine in CT scans, name every vertebra, and segment each one.

What is public (`__all__`) is loaded when it is first used, so that `import payerseg` stays light.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from payerseg.version import __version__

if TYPE_CHECKING:
    from payerseg.api import ArrayResult, Pipeline, Segmentation, segment
    from payerseg.config.load import load_config
    from payerseg.imaging.arrays import load_nifti, save_nifti
    from payerseg.training_api import (
        LandmarkDataset,
        LandmarkTrainer,
        SegmentationDataset,
        SegmentationTrainer,
        SpineDataset,
        SpineTrainer,
        StageDataset,
        StageTrainer,
        SystemConfig,
        build_stage_network,
        prepare_data,
    )

__all__ = [
    "ArrayResult",
    "LandmarkDataset",
    "LandmarkTrainer",
    "Pipeline",
    "Segmentation",
    "SegmentationDataset",
    "SegmentationTrainer",
    "SpineDataset",
    "SpineTrainer",
    "StageDataset",
    "StageTrainer",
    "SystemConfig",
    "__version__",
    "build_stage_network",
    "load_config",
    "load_nifti",
    "prepare_data",
    "save_nifti",
    "segment",
]

_LAZY = {
    "ArrayResult": "payerseg.api",
    "Pipeline": "payerseg.api",
    "Segmentation": "payerseg.api",
    "segment": "payerseg.api",
    "load_config": "payerseg.config.load",
    "load_nifti": "payerseg.imaging.arrays",
    "save_nifti": "payerseg.imaging.arrays",
    "SpineDataset": "payerseg.training_api",
    "SpineTrainer": "payerseg.training_api",
    "StageDataset": "payerseg.training_api",
    "StageTrainer": "payerseg.training_api",
    "SystemConfig": "payerseg.training_api",
    "SegmentationDataset": "payerseg.training_api",
    "LandmarkDataset": "payerseg.training_api",
    "LandmarkTrainer": "payerseg.training_api",
    "SegmentationTrainer": "payerseg.training_api",
    "build_stage_network": "payerseg.training_api",
    "prepare_data": "payerseg.training_api",
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
