"""What may be chosen: one frozen dataclass per stage, one for the driver.

Trained facts (spacing, window, network) are not here: they travel with the weights (`model_card.py`).
Every stage sees its own dataclass and nothing else; that dataclass is part of the stage's freshness key.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, get_args

from payerseg.config.graph import GraphConfig
from payerseg.config.option import check_options, option
from payerseg.errors import ConfigError

Precision = Literal["auto", "float32", "mixed_bfloat16", "mixed_float16"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
Keep = Literal["results", "standard", "all"]
KEEP_LEVELS: tuple[Keep, ...] = get_args(Keep)
"""From the fewest intermediates that stay to all of them."""
Backend = Literal["tensorflow", "torch", "jax"]
BACKENDS: tuple[Backend, ...] = get_args(Backend)
DEVICES = "auto, cpu, gpu or gpu:N"


def is_device(text: str) -> bool:
    """Tell whether a text names a device; whether the machine has it is the run's business."""
    return re.fullmatch(r"auto|cpu|gpu(:\d{1,4})?", text) is not None


PRECISION_TEXT = "arithmetic of the network; auto = mixed bfloat16 where the processor has it"
MEMORY_TEXT = "bound on the memory of the network's activations, MB; larger inputs are tiled"


@dataclass(frozen=True, slots=True)
class PreparationConfig:
    """Stage 0: which scans are accepted."""

    min_size_mm: float = option(
        30.0, "a scan thinner than this along any axis is refused, mm", at_least=0
    )
    max_spacing_mm: float = option(
        12.0, "a scan with a voxel longer than this is refused, mm", at_least=0.1
    )
    check_hounsfield: bool = option(True, "refuse scans that are not plausibly in Hounsfield units")
    uneven_slices: Literal["refuse", "interpolate"] = option(
        "refuse",
        "DICOM series with missing or uneven slices; interpolate = fill gaps of up to 10 mm and ask for "
        "a review",
    )

    def __post_init__(self) -> None:
        check_options(self)


@dataclass(frozen=True, slots=True)
class SpineLocalizationConfig:
    """Stage 1: the spine's box."""

    threshold: float = option(
        0.3, "part of the heatmap's peak that belongs to the spine", at_least=0.01, at_most=0.99
    )
    min_peak: float = option(
        0.2, "a heatmap whose peak is below this holds no spine", at_least=0.0, at_most=1.0
    )
    box: Literal["whole", "reference"] = option(
        "whole",
        "whole = around all large parts, to the voxels' outer faces; reference = around the largest part, "
        "one voxel short",
    )
    precision: Precision = option("auto", PRECISION_TEXT)
    memory_mb: int = option(2000, MEMORY_TEXT, at_least=100)

    def __post_init__(self) -> None:
        check_options(self)


@dataclass(frozen=True, slots=True)
class VertebraeLocalizationConfig:
    """Stage 2: where each vertebra is, and its name."""

    decoder: Literal["merged", "reference"] = option(
        "merged", "merged = label evidence over shared places; reference = the published graph"
    )
    tile_merge: Literal["blend", "max"] = option(
        "blend", "how overlapping tiles join; max = as the reference"
    )
    tile_overlap: float = option(
        0.5, "overlap of neighbouring tiles as a part of their size", at_least=0, at_most=0.9
    )
    tile_size_zyx: tuple[int, int, int] | None = option(
        None, "fixed tile size in voxels; left out = as large as memory_mb allows", at_least=16
    )
    border_mm: float = option(
        10.0,
        "landmarks this near the scan's upper or lower end are flagged (reference: dropped), mm",
        at_least=0,
    )
    mirror_below_mm: float = option(
        180.0,
        "views lower than this are named in mirror image as well, and the mean heat counts; 0 = never",
        at_least=0,
    )
    precision: Precision = option("auto", PRECISION_TEXT)
    memory_mb: int = option(4000, MEMORY_TEXT, at_least=100)
    graph: GraphConfig = option(GraphConfig, "the spine graph")

    def __post_init__(self) -> None:
        check_options(self)


@dataclass(frozen=True, slots=True)
class VertebraeSegmentationConfig:
    """Stage 3: one mask per vertebra."""

    threshold: float | None = option(
        None,
        "probability from which a voxel belongs to the vertebra; left out = the weights' card's",
        at_least=0.01,
        at_most=0.99,
    )
    mask_rule: Literal["highest", "reference"] = option(
        "highest",
        "highest = the most probable vertebra gets a voxel; reference = as PayerSeg_Revised",
    )
    component: Literal["landmark", "largest"] = option(
        "landmark", "which piece of a mask is kept: the one about the landmark, or the largest"
    )
    interpolation: Literal["linear", "cubic"] = option(
        "linear", "how probabilities come back to the scan's grid"
    )
    batch: int = option(1, "vertebrae, or patches, per network call", at_least=1, at_most=32)
    patch_overlap: float = option(
        0.25,
        "overlap of neighbouring patches, as a part of their size, of a network that segments all "
        "vertebrae at once",
        at_least=0,
        at_most=0.9,
    )
    vertebra_masks: Literal["none", "cropped", "full"] = option(
        "cropped", "files in vertebrae/: none, cropped to the vertebra, or on the scan's grid"
    )
    precision: Precision = option("auto", PRECISION_TEXT)
    memory_mb: int = option(4000, MEMORY_TEXT, at_least=100)

    def __post_init__(self) -> None:
        check_options(self)


@dataclass(frozen=True, slots=True)
class QualityReportConfig:
    """Stage 4: checks, measurements, one page."""

    viewer: bool = option(True, "put an interactive viewer into the page (adds the reduced scan)")
    viewer_spacing_mm: float = option(
        2.0, "spacing of the scan inside the page, mm", at_least=0.5, at_most=10
    )
    measurements: bool = option(True, "write measurements.csv")

    def __post_init__(self) -> None:
        check_options(self)


@dataclass(frozen=True, slots=True)
class DriverConfig:
    """The driver: processes, timers, what stays on disk. Never part of a freshness key."""

    device: str = option("auto", DEVICES)
    backend: Backend = option("tensorflow", "engine under Keras")
    family: Literal["payer", "verse_pytorch"] = option(
        "payer",
        "which shipped weights, where none are given; verse_pytorch = the second system "
        "(docs/two-systems.md)",
    )
    dicom_series: str = option(
        "best",
        "DICOM input: best = one series per study by the rule of docs/dicom.md, all = every usable one, "
        "or a series' number, UID or a part of its description",
    )
    threads: int = option(0, "threads of one stage process; 0 = all cores", at_least=0)
    keep: Keep = option(
        "standard",
        "results = what people read; standard = and the prepared scan and the spine heatmap; "
        "all = and label heatmaps",
    )
    seed: int = option(0, "seed given to the stages", at_least=0)
    heartbeat_s: float = option(5.0, "between heartbeats of a stage, s", at_least=0.01)
    startup_s: float = option(300.0, "a stage must have started by then, s", at_least=0.1)
    silence_s: float = option(
        180.0, "a stage without any event for so long is ended, s", at_least=0.1
    )
    case_s: float = option(
        1800.0,
        "time for one case of up to 150 million voxels, s; larger ones get more",
        at_least=0.1,
    )
    grace_s: float = option(10.0, "between asking a stage to end and killing it, s", at_least=0.01)
    max_restarts: int = option(2, "new processes for one stage after crashes", at_least=0)

    def __post_init__(self) -> None:
        check_options(self)
        if not is_device(self.device):
            msg = f"device is {self.device!r}; expected {DEVICES}"
            raise ConfigError(msg)


@dataclass(frozen=True, slots=True)
class RunConfig:
    """All choices of a run; one TOML table per field."""

    preparation: PreparationConfig = option(PreparationConfig, "stage 0")
    spine_localization: SpineLocalizationConfig = option(SpineLocalizationConfig, "stage 1")
    vertebrae_localization: VertebraeLocalizationConfig = option(
        VertebraeLocalizationConfig, "stage 2"
    )
    vertebrae_segmentation: VertebraeSegmentationConfig = option(
        VertebraeSegmentationConfig, "stage 3"
    )
    quality_report: QualityReportConfig = option(QualityReportConfig, "stage 4")
    driver: DriverConfig = option(DriverConfig, "the driver")


INPUT_PREFIX = "input"


@dataclass(frozen=True, slots=True)
class DicomInventoryConfig:
    """Which inputs are looked through, and which series are wanted."""

    sources: tuple[str, ...] = option((), "absolute paths of folders, zips or files")
    series: str = option("best", "as driver.dicom_series")
    fill_gaps: bool = option(False, "missing slices are no obstacle")

    def __post_init__(self) -> None:
        check_options(self)

    def source_of(self, case_id: str) -> str:
        """Return the input that a work item stands for: "input3" is the fourth."""
        return self.sources[int(case_id.removeprefix(INPUT_PREFIX))]
