"""The pipeline: which stages exist, in which order, what each reads and writes. Data only.

A stage's `version` is bumped by hand when the same inputs and settings would give another result.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib import import_module

from payerseg.results import artifacts as a
from payerseg.results.artifacts import Artifact


@dataclass(frozen=True, slots=True)
class StageSpec:
    """One stage.

    Attributes:
        name: as on the command line and in statuses.
        step: its number; with the name it makes the folder.
        module: run as `python -m <module> request.json`.
        version: of its results.
        reads: artifacts it may read; nothing else can be read, so no key can miss an input.
        writes: artifacts it may write.
        config: "module:class" of its settings.
        weights: whether it needs weights.
        reads_scan: whether it reads the user's file.
        edits: program that takes over what a person changed in its results, before later stages read it;
            "" where an edit is used as it is. What was taken over is replaced by `--force` only.
        has_time_limit: whether an item that takes too long is ended.
    """

    name: str
    step: int
    module: str
    version: int
    reads: tuple[Artifact, ...]
    writes: tuple[Artifact, ...]
    config: str
    weights: bool = False
    reads_scan: bool = False
    edits: str = ""
    has_time_limit: bool = True

    @property
    def section(self) -> str:
        """The section of the configuration that belongs to it."""
        return self.name

    @property
    def folder(self) -> str:
        """The name of its folder in every case folder."""
        return f"step{self.step}_{self.name}"

    def config_type(self) -> type:
        """Return the class of its settings."""
        module, _, name = self.config.partition(":")
        return getattr(import_module(module), name)


_SCHEMA = "payerseg.config.schema:"

PREPARATION = StageSpec(
    name="preparation",
    step=0,
    module="stages.preparation",
    version=2,
    reads=(),
    writes=(a.CT, a.SCAN),
    config=f"{_SCHEMA}PreparationConfig",
    reads_scan=True,
)
SPINE_LOCALIZATION = StageSpec(
    name="spine_localization",
    step=1,
    module="stages.spine_localization",
    version=1,
    reads=(a.CT,),
    writes=(a.SPINE_HEATMAP, a.SPINE_BOX, a.STAGE1_PROJECTION),
    config=f"{_SCHEMA}SpineLocalizationConfig",
    weights=True,
)
VERTEBRAE_LOCALIZATION = StageSpec(
    name="vertebrae_localization",
    step=2,
    module="stages.vertebrae_localization",
    version=6,
    reads=(a.CT, a.SPINE_BOX),
    writes=(a.HEATMAPS, a.CANDIDATES, a.LANDMARKS_CSV, a.LANDMARKS_JSON, a.PROJECTION),
    config=f"{_SCHEMA}VertebraeLocalizationConfig",
    weights=True,
)
VERTEBRAE_SEGMENTATION = StageSpec(
    name="vertebrae_segmentation",
    step=3,
    module="stages.vertebrae_segmentation",
    version=2,
    reads=(a.CT, a.SCAN, a.LANDMARKS_CSV),
    writes=(a.SEGMENTATION, a.VERTEBRAE, a.MASK_REPORT),
    config=f"{_SCHEMA}VertebraeSegmentationConfig",
    weights=True,
    edits="stages.mask_edits",
)
QUALITY_REPORT = StageSpec(
    name="quality_report",
    step=4,
    module="stages.quality_report",
    version=6,
    reads=(
        a.CT,
        a.SCAN,
        a.LANDMARKS_CSV,
        a.LANDMARKS_JSON,
        a.SEGMENTATION,
        a.MASK_REPORT,
    ),
    writes=(a.FINDINGS, a.REPORT, a.THUMBNAIL, a.MEASUREMENTS),
    config=f"{_SCHEMA}QualityReportConfig",
)

PIPELINE: tuple[StageSpec, ...] = (
    PREPARATION,
    SPINE_LOCALIZATION,
    VERTEBRAE_LOCALIZATION,
    VERTEBRAE_SEGMENTATION,
    QUALITY_REPORT,
)

# Not in the pipeline: it takes over what a person changed in the results of stage 3, and asks no network.
MASK_EDITS = replace(
    VERTEBRAE_SEGMENTATION, module=VERTEBRAE_SEGMENTATION.edits, weights=False, edits=""
)

# Not in the pipeline: it runs before it, and its work item is an input of the user, not a scan.
DICOM_INVENTORY = StageSpec(
    name="dicom_inventory",
    step=0,
    module="stages.dicom_inventory",
    version=1,
    reads=(),
    writes=(a.DICOM_INVENTORY,),
    config="payerseg.config.schema:DicomInventoryConfig",
)

# Not in the pipeline: its work item is a network, not a scan.
NETWORK_TRAINING = StageSpec(
    name="network_training",
    step=0,
    module="stages.network_training",
    version=1,
    reads=(),
    writes=(a.TRAINING_RECORD,),
    config="payerseg.config.training:TrainingConfig",
    has_time_limit=False,
)
