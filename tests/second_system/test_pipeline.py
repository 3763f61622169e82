"""The same stages, the same folders, other cards: all vertebrae at once in stage 3."""

import json

import numpy as np
import pytest

import payerseg
from payerseg.config.load import load_config
from payerseg.imaging.files import read_volume, write_volume
from payerseg.results.artifacts import HEATMAPS, LANDMARKS_CSV, MASK_REPORT, SEGMENTATION
from payerseg.results.case_folder import CaseFolder
from payerseg.results.formats import read_artifact
from payerseg.stagekit.case_run import StageSetup
from payerseg.stagekit.catalog import PIPELINE, QUALITY_REPORT
from payerseg.stagekit.in_process import InProcessStage


def run_stages(scan_path, folder, weights, overrides=()):
    """Run the pipeline's stages on one case folder; return the last result."""
    config = load_config("tiny_test", overrides=overrides)
    done = None
    for spec in PIPELINE:
        if spec is not QUALITY_REPORT:
            setup = StageSetup(getattr(config, spec.section), weights.get(spec.name), 0)
            done = InProcessStage(spec, setup)("scan", folder, scan_path)
    return done


@pytest.fixture(scope="module")
def case(tmp_path_factory, coded_scan, second_weights):
    work = tmp_path_factory.mktemp("case")
    write_volume(coded_scan.ct, work / "scan.nii.gz")
    run_stages(work / "scan.nii.gz", work / "out", second_weights)
    return CaseFolder(work / "out", "scan")


def labels_of(folder):
    return read_artifact(SEGMENTATION, folder.path(SEGMENTATION))


def test_every_vertebra_is_named_and_segmented(case, coded_scan):
    landmarks = read_artifact(LANDMARKS_CSV, case.path(LANDMARKS_CSV))
    assert list(landmarks) == list(coded_scan.landmarks)
    labels = read_volume(case.path(SEGMENTATION)).array
    for vertebra in coded_scan.landmarks:
        found, true = (a == vertebra.verse_label for a in (labels, coded_scan.labels.array))
        assert 2 * (found & true).sum() / (found.sum() + true.sum()) > 0.85, vertebra


def test_the_files_are_those_of_the_default_family(case):
    report = json.loads(case.path(MASK_REPORT).read_text())
    assert set(report) == {"T10", "T11", "T12", "L1", "L2"}
    assert all(entry["mean_probability"] > 0.5 for entry in report.values())
    assert sorted(p.name for p in case.root.iterdir()) == [
        "step0_preparation",
        "step1_spine_localization",
        "step2_vertebrae_localization",
        "step3_vertebrae_segmentation",
    ]
    assert read_artifact(HEATMAPS, case.path(HEATMAPS)).array.shape[-1] == 2


def test_patches_do_not_change_what_one_pass_gives(case, coded_scan, second_weights, tmp_path):
    write_volume(coded_scan.ct, tmp_path / "scan.nii.gz")
    choices = ["vertebrae_segmentation.patch_overlap=0.6", "vertebrae_segmentation.batch=3"]
    run_stages(tmp_path / "scan.nii.gz", tmp_path / "out", second_weights, choices)
    other = read_volume(CaseFolder(tmp_path / "out", "scan").path(SEGMENTATION)).array
    # the network sees one voxel around; only where patches end it sees zeros instead
    assert np.mean(other != read_volume(case.path(SEGMENTATION)).array) < 1e-3


def test_a_landmark_that_is_taken_out_takes_its_mask_along(case, coded_scan, second_weights):
    """`landmarks.csv` may be edited; stage 3 segments what it names, and nothing else."""
    config = load_config("tiny_test")
    path = case.path(LANDMARKS_CSV)
    before = path.read_text()
    path.write_text("".join(row for row in before.splitlines(True) if not row.startswith("T12,")))
    try:
        spec = PIPELINE[3]
        setup = StageSetup(config.vertebrae_segmentation, second_weights[spec.name], 0)
        InProcessStage(spec, setup)("scan", case.root)
        assert 19 not in np.unique(read_volume(case.path(SEGMENTATION)).array)
        assert 18 in np.unique(read_volume(case.path(SEGMENTATION)).array)
    finally:
        path.write_text(before)


def test_the_library_call_takes_the_family_too(coded_scan, second_weights, monkeypatch):
    asked = []

    def bundle(stage, family):
        asked.append(family)
        return second_weights[stage]

    monkeypatch.setattr("payerseg.api.default_bundle", bundle)
    config = load_config("tiny_test", overrides=["driver.family=verse_pytorch"])
    result = payerseg.segment(coded_scan.ct, config=config)
    assert set(asked) == {"verse_pytorch"}
    assert list(result.landmarks) == list(coded_scan.landmarks)
