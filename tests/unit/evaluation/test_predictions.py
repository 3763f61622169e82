"""Results of any method, whatever the files are called."""

import json
from dataclasses import replace

import numpy as np
import pytest

from payerseg.datasets.label_schemes import SCHEMES
from payerseg.domain.spine_box import SpineBox
from payerseg.domain.vertebra import Vertebra
from payerseg.errors import ArtifactError, DatasetError
from payerseg.evaluation.predictions import (
    ResultRules,
    find_predictions,
    read_prediction,
    split_name,
)
from payerseg.imaging.files import write_volume
from payerseg.results.artifacts import (
    LANDMARKS_CSV,
    LANDMARKS_JSON,
    SCAN,
    SEGMENTATION,
    SPINE_BOX,
)
from payerseg.results.formats import write_artifact
from payerseg.results.manifest import StageManifest


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a_seg.nii.gz", ("a", "labels")),
        ("a_segmentation.nii.gz", ("a", "labels")),
        ("a.nii.gz", ("a", "labels")),
        ("a.mha", ("a", "labels")),
        ("sub-verse004_seg-vert_msk.nii.gz", ("sub-verse004", "labels")),
        ("sub-verse004_seg-subreg_ctd.json", ("sub-verse004", "points")),
        ("a_landmarks.csv", ("a", "points")),
        ("a.json", ("a", "points")),
        ("a_ct.nii.gz", ("a_ct", None)),
        ("a_0000.nii.gz", ("a_0000", None)),
        ("ct.nii.gz", ("ct", None)),
        ("report.html", ("report.html", None)),
    ],
)
def test_names(name, expected):
    assert split_name(name) == expected


def test_label_maps_alone_give_body_centres(tmp_path, bodies):
    labels, marks = bodies
    write_volume(labels, tmp_path / "a_seg.nii.gz")
    found = find_predictions(tmp_path)
    prediction = read_prediction(found["a"])
    assert list(prediction.landmarks) == list(marks)
    gap = prediction.landmarks.positions_mm - marks.positions_mm
    assert np.abs(gap).max() < 2.5
    assert prediction.needs_review is None


def test_another_tools_numbers(tmp_path, bodies):
    labels, marks = bodies
    theirs = np.zeros_like(labels.array)
    for verse, total in ((20, 31), (21, 30), (22, 29)):
        theirs[labels.array == verse] = total
    theirs[0, 0, 0] = 5  # an organ
    write_volume(labels.with_array(theirs), tmp_path / "a.nii.gz")
    found = find_predictions(tmp_path)["a"]
    prediction = read_prediction(found, ResultRules(SCHEMES["totalsegmentator"]))
    assert list(prediction.landmarks) == list(marks)
    assert np.array_equal(prediction.labels.array, labels.array)


def test_numbers_that_the_scheme_does_not_know(tmp_path, bodies):
    write_volume(bodies[0], tmp_path / "a.nii.gz")
    with pytest.raises(ArtifactError, match=r"labels 20, 21, 22, none .* scheme 'vista3d'"):
        read_prediction(find_predictions(tmp_path)["a"], ResultRules(SCHEMES["vista3d"]))


def test_our_case_folder(tmp_path, bodies, tools, seal):
    labels, marks = bodies
    folder = tools.put_case_folder(tmp_path, "a", marks, labels, "ok_needs_review")
    folder.path(SPINE_BOX).parent.mkdir(exist_ok=True)
    write_artifact(SPINE_BOX, SpineBox((-9, -9, 0), (9, 9, 90)), folder.path(SPINE_BOX), folder)
    seal(folder, status="ok_needs_review")
    prediction = read_prediction(find_predictions(tmp_path)["a"])
    assert prediction.needs_review
    assert prediction.status == "ok_needs_review"
    assert prediction.box == SpineBox((-9, -9, 0), (9, 9, 90))
    assert prediction.scan_grid.same_space_as(labels.grid)
    assert np.array_equal(prediction.labels.array, labels.array)
    assert np.allclose(prediction.landmarks.positions_mm, marks.positions_mm, atol=1e-3)


def test_review_is_also_read_from_the_manifests(tmp_path, bodies, tools, seal):
    folder = tools.put_case_folder(tmp_path, "a", bodies[1], status="not_run")
    assert read_prediction(find_predictions(tmp_path)["a"]).needs_review is False
    path = folder.manifest_path(LANDMARKS_JSON.step)
    replace(StageManifest.read(path), notes={"needs_review": True}).write(path)
    found = read_prediction(find_predictions(tmp_path)["a"])
    assert (found.needs_review, found.status) == (True, "ok_needs_review")


DECISION = {"level_set": {"L1-L3": 0.7, "T12-L2": 0.2}, "level_probability": 0.7}


@pytest.mark.parametrize(
    ("names", "stated"),
    [
        (("L1", "L2", "L3"), (("L1", "L2", "L3"), ("T12", "L1", "L2"))),
        (("L2", "L3", "L4"), ()),  # a person has renamed them since
    ],
)
def test_what_the_decision_states_belongs_to_its_names(
    tmp_path, bodies, tools, seal, names, stated
):
    folder = tools.put_case_folder(tmp_path, "a", bodies[1])
    decision = {"landmarks": dict.fromkeys(names), **DECISION}
    write_artifact(LANDMARKS_JSON, decision, folder.path(LANDMARKS_JSON), folder)
    seal(folder)
    prediction = read_prediction(find_predictions(tmp_path)["a"])
    assert prediction.level_set == stated
    assert prediction.level_probability == (0.7 if stated else None)


@pytest.mark.parametrize(
    "decision",
    [
        [1],
        {"level_set": {"L1-X3": 1.0}, "level_probability": 1.0},
        {"level_set": {"L1-L3": 1.0}, "level_probability": "much"},
        {"level_set": {"L1-L3": 1.0}},
    ],
)
def test_a_strange_decision_is_named(tmp_path, bodies, tools, seal, decision):
    folder = tools.put_case_folder(tmp_path, "a", bodies[1])
    if isinstance(decision, dict):
        decision = {"landmarks": dict.fromkeys(("L1", "L2", "L3")), **decision}
    write_artifact(LANDMARKS_JSON, decision, folder.path(LANDMARKS_JSON), folder)
    seal(folder)
    with pytest.raises(ArtifactError, match=r"landmarks\.json cannot be read"):
        read_prediction(find_predictions(tmp_path)["a"])


def test_failed_case_has_nothing(tmp_path, tools):
    tools.put_case_folder(tmp_path, "a", None, status="failed_preparation_unreadable")
    prediction = read_prediction(find_predictions(tmp_path)["a"])
    assert len(prediction.landmarks) == 0
    assert prediction.status == "failed_preparation_unreadable"
    assert prediction.refused


CHANGES = {
    "renamed by a person": lambda folder: edit(folder.path(LANDMARKS_CSV), b"L3", b"L4"),
    "another scan, prepared": lambda folder: edit(folder.path(SCAN), b'"a.nii.gz"', b'"b.nii.gz"'),
    "map erased": lambda folder: folder.path(SEGMENTATION).unlink(),
    "map changed": lambda folder: edit(folder.path(SEGMENTATION), b"", b"x"),
    "manifest gone": lambda folder: folder.manifest_path(SEGMENTATION.step).unlink(),
    "manifest damaged": lambda folder: folder.manifest_path(SEGMENTATION.step).write_text("{"),
}


def edit(path, old, new):
    path.write_bytes(path.read_bytes().replace(old, new, 1))


@pytest.mark.parametrize("change", CHANGES)
def test_what_is_stale_has_no_result_unless_asked_for(tmp_path, bodies, tools, change):
    labels, marks = bodies
    folder = tools.put_case_folder(tmp_path, "a", marks, labels)
    CHANGES[change](folder)
    where = find_predictions(tmp_path)["a"]
    prediction = read_prediction(where)
    assert (prediction.status, len(prediction.landmarks), prediction.labels) == ("stale", 0, None)
    assert prediction.refused.startswith("stale: ")
    if change in ("renamed by a person", "manifest gone"):
        taken = read_prediction(where, ResultRules(stale_ok=True))
        assert len(taken.landmarks) == len(marks)
        assert taken.labels is not None


def test_flat_export_uses_its_landmarks(tmp_path, bodies):
    labels, marks = bodies
    write_volume(labels, tmp_path / "a_segmentation.nii.gz")
    rows = [
        {"label": v.verse_label, "X": x + 3, "Y": y, "Z": z}
        for v, (x, y, z) in zip(marks, marks.positions_mm.tolist(), strict=True)
    ]
    (tmp_path / "a_landmarks.json").write_text(json.dumps(rows))
    prediction = read_prediction(find_predictions(tmp_path)["a"])
    assert np.allclose(prediction.landmarks.positions_mm, marks.positions_mm + np.array([3, 0, 0]))
    assert prediction.labels is not None
    (tmp_path / "a_landmarks.csv").write_text("label,X,Y,Z\n20,0,0,7\n")
    prediction = read_prediction(find_predictions(tmp_path)["a"], ResultRules(with_labels=False))
    assert prediction.labels is None
    assert prediction.landmarks[Vertebra.L1].position_mm == (0, 0, 7)


def test_list_that_is_no_flat_export(tmp_path):
    (tmp_path / "a.json").write_text('[{"direction": ["P", "I", "R"]}]')
    with pytest.raises(DatasetError, match="VerSe lists end in"):
        read_prediction(find_predictions(tmp_path)["a"])


def test_landmark_tables_with_and_without_scores(tmp_path):
    (tmp_path / "a.csv").write_text("label,X,Y,Z,score,flags\nT12,1,2,3,0.5,near_border\n")
    (tmp_path / "b.csv").write_text("label,X,Y,Z\n19,1,2,3\n")
    found = find_predictions(tmp_path)
    for case in "ab":
        marks = read_prediction(found[case]).landmarks
        assert marks[Vertebra.T12].position_mm == (1, 2, 3)


def test_verse_list_needs_its_mask(tmp_path):
    (tmp_path / "a_ctd.json").write_text('[{"direction": ["P","I","R"]}, {"label": 20}]')
    with pytest.raises(DatasetError, match="label map beside it"):
        read_prediction(find_predictions(tmp_path)["a"])


def test_two_maps_of_one_case_are_refused(tmp_path, bodies):
    write_volume(bodies[0], tmp_path / "a_seg.nii.gz")
    write_volume(bodies[0], tmp_path / "a.nii.gz")
    with pytest.raises(ArtifactError, match="both label maps"):
        read_prediction(find_predictions(tmp_path)["a"])


def test_nothing_to_score(tmp_path):
    with pytest.raises(ArtifactError, match="holds no result"):
        find_predictions(tmp_path)
    with pytest.raises(ArtifactError, match="not a folder"):
        find_predictions(tmp_path / "x")
