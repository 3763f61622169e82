"""Case folders as the earlier stages leave them, with the truth of a synthetic spine as their result."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from payerseg.config.schema import PreparationConfig, QualityReportConfig
from payerseg.domain.landmarks import Landmarks
from payerseg.domain.spine_box import SpineBox
from payerseg.domain.volume import Volume
from payerseg.imaging.files import write_volume
from payerseg.results.artifacts import (
    CANDIDATES,
    LANDMARKS_CSV,
    LANDMARKS_JSON,
    MASK_REPORT,
    SEGMENTATION,
    SPINE_BOX,
)
from payerseg.results.case_folder import CaseFolder
from payerseg.results.formats import write_artifact
from payerseg.results.manifest import StageManifest
from payerseg.results.status import CaseSummary, StageOutcome, StageState
from payerseg.stagekit.case_run import StageSetup
from payerseg.stagekit.catalog import PREPARATION, QUALITY_REPORT, VERTEBRAE_LOCALIZATION
from payerseg.stagekit.in_process import InProcessStage


def decision_of(landmarks: Landmarks, **more) -> dict:
    """What stage 2 would have written down."""
    marks = {
        vertebra.name: {
            "label": vertebra.verse_label,
            "position_mm": [round(v, 3) for v in mark.position_mm],
            "score": mark.score,
            "flags": list(mark.flags),
        }
        for vertebra, mark in landmarks.items()
    }
    return {"landmarks": marks, "needs_review": False, "reasons": [], "alternatives": []} | more


def put_case(
    root: Path, case_id: str, ct: Volume, labels: Volume, landmarks: Landmarks
) -> CaseFolder:
    """Write everything that stage 4 reads."""
    scan = root / "in" / f"{case_id}.nii.gz"
    scan.parent.mkdir(parents=True, exist_ok=True)
    write_volume(ct, scan)
    folder = CaseFolder(root / "out" / case_id, case_id)
    InProcessStage(PREPARATION, StageSetup(PreparationConfig()))(case_id, folder.root, scan)
    positions = landmarks.positions_mm
    for artifact, value in (
        (SPINE_BOX, SpineBox(tuple(positions.min(axis=0)), tuple(positions.max(axis=0)))),
        (CANDIDATES, []),
        (LANDMARKS_CSV, landmarks),
        (LANDMARKS_JSON, decision_of(landmarks)),
        (SEGMENTATION, labels.with_array(labels.array.astype(np.uint8))),
        (MASK_REPORT, {}),
    ):
        put(folder, artifact, value)
    manifest = StageManifest(
        VERTEBRAE_LOCALIZATION.name, 1, "key", weights="blake2b:71aa03c9e5b7d1f2", seconds=12.25,
        versions={"tensorflow": "2.21.0"}, started="2026-01-02T03:04:05+00:00",
    )  # fmt: skip
    manifest.write(folder.manifest_path(VERTEBRAE_LOCALIZATION.folder))
    return folder


def put(folder: CaseFolder, artifact, value) -> None:
    """Write one artifact."""
    path = folder.path(artifact)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_artifact(artifact, value, path, folder)


def run_report(folder: CaseFolder, **config):
    """Run stage 4 on a case and write its status as the driver would."""
    stage = InProcessStage(QUALITY_REPORT, StageSetup(QualityReportConfig(**config)))
    result = stage(folder.case_id, folder.root)
    status = "ok_needs_review" if result.notes["needs_review"] else "ok"
    stages = {"quality_report": StageOutcome(StageState.DONE, seconds=1.5)}
    CaseSummary(folder.case_id, status, stages=stages).write(folder)
    return result
