"""Stage 3, edits: corrected masks are taken over, map and single masks in step."""

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))  # importlib mode: no packages among tests
from report_cases import put, put_case
from result_folders import seal

from payerseg.config.schema import PreparationConfig, VertebraeSegmentationConfig
from payerseg.domain.vertebra import Vertebra
from payerseg.domain.volume import Volume
from payerseg.errors import ArtifactError
from payerseg.exports.case_result import find_results
from payerseg.imaging.files import read_label_map, read_volume, write_volume
from payerseg.postprocess.mask_results import edited_record, single_masks
from payerseg.results.artifacts import MASK_REPORT, SCAN, SEGMENTATION, VERTEBRAE
from payerseg.results.fingerprint import HashMemo
from payerseg.results.formats import read_artifact
from payerseg.results.manifest import StageManifest
from payerseg.stagekit.case_run import Provenance, StageSetup, take_over_edits
from payerseg.stagekit.case_state import current_result
from payerseg.stagekit.catalog import MASK_EDITS, PREPARATION, VERTEBRAE_SEGMENTATION
from payerseg.stagekit.in_process import InProcessStage
from payerseg.stagekit.protocol import CaseRequest
from stages.mask_edits import MaskEdits

L1 = Vertebra.L1.verse_label


@pytest.fixture
def case(tmp_path, spine):
    """A segmented case of which nothing was edited yet."""
    folder = put_case(tmp_path, "a", spine.ct, spine.labels, spine.landmarks)
    put_masks(folder, read_artifact(SEGMENTATION, folder.path(SEGMENTATION)))
    return seal(folder, tmp_path / "in" / "a.nii.gz")


def put_masks(folder, labels):
    folder.path(VERTEBRAE).mkdir()
    put(folder, VERTEBRAE, single_masks(labels, "cropped"))
    put(folder, MASK_REPORT, edited_record({}, labels, frozenset()) | {})


def edit_map(folder, change):
    path = folder.path(SEGMENTATION)
    stored = read_label_map(path)
    array = stored.array.copy()
    write_volume(stored.with_array(np.asarray(change(array))), path)


def edit_mask(folder, name, change):
    path = folder.path(VERTEBRAE) / f"{name}.nii.gz"
    stored = read_label_map(path)
    write_volume(stored.with_array(change(stored.array.copy())), path)


def take_over(folder):
    request = CaseRequest(folder.case_id, folder.root, None)
    edits = MaskEdits(StageSetup(VertebraeSegmentationConfig()))
    take_over_edits(MASK_EDITS, edits, request, Provenance({}), lambda *_: None)
    return StageManifest.read(folder.manifest_path(VERTEBRAE_SEGMENTATION.folder))


def labels_of(folder):
    return read_artifact(SEGMENTATION, folder.path(SEGMENTATION))


def assert_in_step(folder):
    labels, masks = labels_of(folder), read_artifact(VERTEBRAE, folder.path(VERTEBRAE))
    present = {v for v in Vertebra if np.any(labels.array == v.verse_label)}
    assert set(masks) == present
    for vertebra, mask in masks.items():
        wanted = np.argwhere(labels.array == vertebra.verse_label)
        found = mask.grid.map_indices_to_world(np.argwhere(mask.array))
        assert np.allclose(found, labels.grid.map_indices_to_world(wanted), atol=1e-2)
    assert current_result(folder, HashMemo()).refusal() == ""


def halved(array):
    """Cut the lower half of L1 off."""
    where = np.argwhere(array == L1)
    low = array[: int(where[:, 0].mean())]
    low[low == L1] = 0
    return array


def test_an_edited_map_brings_the_single_masks_in_step(case):
    before = labels_of(case)
    edit_map(case, halved)
    assert "the next run takes it over" in current_result(case, HashMemo()).refusal()
    edited = case.path(SEGMENTATION).read_bytes()
    manifest = take_over(case)
    assert case.path(SEGMENTATION).read_bytes() == edited, "a sound file stays as it is"
    assert manifest.by_hand == ("segmentation",)
    assert_in_step(case)
    n_before, n_now = (np.count_nonzero(x.array == L1) for x in (before, labels_of(case)))
    assert 0 < n_now < n_before
    record = read_artifact(MASK_REPORT, case.path(MASK_REPORT))
    assert record["L1"]["by_hand"]
    assert record["L1"]["n_voxels"] == n_now
    (found,) = find_results(case.root.parent).cases
    assert found.is_redrawn
    assert "L1" in found.assisted()


def test_an_edited_single_mask_brings_the_map_in_step(case):
    before = labels_of(case).array
    edit_mask(case, "L1", lambda array: array * (np.arange(array.shape[0])[:, None, None] > 5))
    manifest = take_over(case)
    assert manifest.by_hand == ("vertebrae",)
    assert_in_step(case)
    now = labels_of(case).array
    assert 0 < np.count_nonzero(now == L1) < np.count_nonzero(before == L1)
    assert set(before[now != before]) == {L1}, "the others are as they were"


def test_a_single_mask_that_is_gone_is_no_correction(case):
    before = labels_of(case).array
    (case.path(VERTEBRAE) / "L1.nii.gz").unlink()
    take_over(case)
    assert np.array_equal(labels_of(case).array, before)
    assert_in_step(case)


def test_labels_that_another_program_wrote_with_a_slope(case):
    slope = np.nextafter(np.float32(1), np.float32(2))
    edit_map(case, lambda array: halved(array).astype(np.float32) * slope)
    take_over(case)
    assert read_volume(case.path(SEGMENTATION)).array.dtype == np.uint8
    assert_in_step(case)


REFUSED = {
    "a strange label": (
        lambda f: edit_map(f, lambda a: np.where(a == L1, 99, a)),
        r"labels \[99\]",
    ),
    "erased": (lambda f: edit_map(f, np.zeros_like), "no label at all"),
    "fractions": (lambda f: edit_map(f, lambda a: a + np.float32(0.25)), "fractions"),
    "half of the voxels": (
        lambda f: write_coarse(f.path(SEGMENTATION)),
        "edited label map lies on",
    ),
    "truncated": (lambda f: truncate(f.path(SEGMENTATION)), "cannot be read"),
    "masks that overlap": (
        lambda f: (
            shutil.copy(f.path(VERTEBRAE) / "L2.nii.gz", f.path(VERTEBRAE) / "L1.nii.gz"),
            edit_mask(f, "L2", lambda a: a * (np.arange(a.shape[0])[:, None, None] > 5)),
        ),
        "overlaps with another one",
    ),
    "a stranger among the masks": (
        lambda f: (f.path(VERTEBRAE) / "Q9.nii.gz").write_text("x"),
        "Q9.nii.gz is no mask",
    ),
    "both, and different": (
        lambda f: (edit_map(f, halved), edit_mask(f, "L2", np.zeros_like)),
        "both edited and differ in L1, L2",
    ),
}


def write_coarse(path):
    stored = read_label_map(path)
    array = np.ascontiguousarray(stored.array[::2, ::2, ::2])
    matrix = stored.grid.matrix.copy()
    matrix[:3, :3] *= 2
    write_volume(Volume(array, type(stored.grid).from_matrix(array.shape, matrix)), path)


def truncate(path):
    path.write_bytes(path.read_bytes()[:600])


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_used_is_refused_and_nothing_is_touched(case, name):
    change, said = REFUSED[name]
    change(case)
    files = {p: p.read_bytes() for p in case.root.rglob("*") if p.is_file()}
    with pytest.raises(ArtifactError, match=said):
        take_over(case)
    assert {p: p.read_bytes() for p in case.root.rglob("*") if p.is_file()} == files
    assert current_result(case, HashMemo()).refusal()


def test_the_preparation_of_another_scan_makes_them_stale(case, tmp_path, spine):
    other = tmp_path / "in" / "a.nii.gz"
    write_volume(spine.ct.with_array(spine.ct.array[::-1].copy()), other)
    InProcessStage(PREPARATION, StageSetup(PreparationConfig()))("a", case.root, other)
    refusal = current_result(case, HashMemo()).refusal()
    assert refusal.startswith("stale: spine_localization: ct changed")
    assert case.path(SCAN).is_file()
