"""Every result of a case: its name, its place, its format. The only file that knows a file name.

`where` is relative to the case folder; `{case_id}` in it is replaced. Its first part is the folder of
the one stage that writes the artifact.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from payerseg.config.schema import KEEP_LEVELS, Keep

if TYPE_CHECKING:
    from payerseg.domain.spine_box import SpineBox
    from payerseg.domain.volume import Volume

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Artifact(Generic[T]):
    """One declared result; `T` is what reading it gives.

    Attributes:
        name: as in manifests and messages.
        where: file or directory below the case folder.
        format: names the codec in `results/formats.py`.
        optional: a stage may leave it out (a case without a spine, a figure switched off).
        editable: a person may change it; the change is respected and later stages become stale.
        directory: a whole tree, replaced and hashed as one.
        keep: the lowest level of `--keep` at which it stays after the case is complete.
    """

    name: str
    where: str
    format: str
    optional: bool = False
    editable: bool = False
    directory: bool = False
    keep: Keep = "results"

    @property
    def step(self) -> str:
        """The stage folder it lies in."""
        return self.where.split("/", 1)[0]

    def stays_at(self, level: Keep) -> bool:
        """Tell whether a run with this `--keep` level leaves it on disk."""
        return KEEP_LEVELS.index(level) >= KEEP_LEVELS.index(self.keep)


CT: Artifact[Volume] = Artifact("ct", "step0_preparation/ct.nii.gz", "nifti_ct", keep="standard")
SCAN: Artifact[Any] = Artifact("scan", "step0_preparation/scan.json", "scan")

SPINE_HEATMAP: Artifact[Volume] = Artifact(
    "spine_heatmap",
    "step1_spine_localization/spine_heatmap.nii.gz",
    "heatmap",
    optional=True,
    keep="standard",
)
SPINE_BOX: Artifact[SpineBox] = Artifact(
    "spine_box", "step1_spine_localization/spine_box.json", "spine_box"
)
STAGE1_PROJECTION: Artifact[Any] = Artifact(
    "spine_projection",
    "step1_spine_localization/{case_id}_spine_box.png",
    "png",
    optional=True,
)

HEATMAPS: Artifact[Any] = Artifact(
    "heatmaps",
    "step2_vertebrae_localization/heatmaps.nii.gz",
    "label_heatmaps",
    optional=True,
    keep="all",
)
CANDIDATES: Artifact[Any] = Artifact(
    "candidates", "step2_vertebrae_localization/candidates.json", "json"
)
LANDMARKS_CSV: Artifact[Any] = Artifact(
    "landmarks_csv",
    "step2_vertebrae_localization/landmarks.csv",
    "landmarks_csv",
    editable=True,
)
LANDMARKS_JSON: Artifact[Any] = Artifact(
    "landmarks_json", "step2_vertebrae_localization/landmarks.json", "json"
)
PROJECTION: Artifact[Any] = Artifact(
    "projection",
    "step2_vertebrae_localization/{case_id}_landmarks_final.png",
    "png",
    optional=True,
)

SEGMENTATION: Artifact[Volume] = Artifact(
    "segmentation",
    "step3_vertebrae_segmentation/{case_id}_seg.nii.gz",
    "labels",
    editable=True,
)
VERTEBRAE: Artifact[Mapping[Any, Volume]] = Artifact(
    "vertebrae",
    "step3_vertebrae_segmentation/vertebrae",
    "vertebra_masks",
    optional=True,
    editable=True,
    directory=True,
)
MASK_REPORT: Artifact[Any] = Artifact(
    "mask_report", "step3_vertebrae_segmentation/masks.json", "json"
)

FINDINGS: Artifact[Any] = Artifact("findings", "step4_quality_report/findings.json", "json")
REPORT: Artifact[Any] = Artifact(
    "report", "step4_quality_report/report.html", "text", optional=True
)
THUMBNAIL: Artifact[Any] = Artifact(
    "thumbnail", "step4_quality_report/{case_id}_spine.png", "png", optional=True
)
MEASUREMENTS: Artifact[Any] = Artifact(
    "measurements", "step4_quality_report/measurements.csv", "text", optional=True
)

DICOM_INVENTORY: Artifact[Any] = Artifact(
    "dicom_inventory", "step0_dicom_inventory/inventory.json", "json"
)
TRAINING_RECORD: Artifact[Any] = Artifact(
    "training_record", "step0_network_training/training.json", "json"
)
