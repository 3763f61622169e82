import json
import os
import sys
from pathlib import Path

import pytest

from payerseg.driver.inputs import (
    case_id_of,
    discover_cases,
    may_have_folder,
    remembered_cases,
    scan_suffix,
    tidy_path,
)
from payerseg.errors import UsageError


def touch(folder, *names):
    for name in names:
        (folder / name).write_text("x")
    return folder


@pytest.mark.parametrize(
    ("name", "case_id"),
    [
        ("sub-004_ct.nii.gz", "sub-004_ct"),
        ("a.nii", "a"),
        ("a.b.mha", "a.b"),
        ("Scan.NII.GZ", "Scan"),
        ("x.mhd", "x"),
        ("x{y}.nrrd", "x{y}"),
        ("ct 1.nii", "ct 1"),
    ],
)
def test_a_case_is_named_after_its_file(name, case_id):
    assert case_id_of(Path("/in") / name) == case_id


@pytest.mark.parametrize("name", ["a.dcm", "a.gz", ".nii.gz", "nii"])
def test_what_is_no_scan_by_its_name(name):
    with pytest.raises(UsageError, match=r"\.mha"):
        case_id_of(Path("/in") / name)


def test_a_folder_is_flat_sorted_and_picky(tmp_path):
    touch(tmp_path, "b.nii.gz", "a.mha", "notes.txt", "._a.nii", "b_seg.nii.gz", "a.raw")
    (tmp_path / "deeper").mkdir()
    touch(tmp_path / "deeper", "c.nii")
    found = discover_cases([tmp_path])
    assert [case.case_id for case in found.cases] == ["a", "b"]
    assert found.refusals == ()
    aside, deeper = found.notes
    assert aside == "left aside as label maps, not scans, by their names: b_seg.nii.gz"
    assert "so 1 deeper one(s), as deeper/c.nii, were left aside" in deeper


def test_a_label_map_given_by_name_is_taken(tmp_path):
    touch(tmp_path, "b_seg.nii.gz")
    assert discover_cases([tmp_path / "b_seg.nii.gz"]).cases[0].case_id == "b_seg"


def test_files_and_folders_together_name_a_scan_once(tmp_path):
    touch(tmp_path, "a.nii", "b.nii")
    found = discover_cases([tmp_path, tmp_path / "a.nii"])
    assert [case.image for case in found.cases] == [tmp_path / "a.nii", tmp_path / "b.nii"]


def test_paths_are_told_without_dots_and_links_keep_their_names(tmp_path, monkeypatch):
    for name in ("in", "work", "elsewhere"):
        (tmp_path / name).mkdir()
    touch(tmp_path / "in", "a.nii")
    touch(tmp_path / "elsewhere", "b.nii")
    (tmp_path / "in" / "link.nii").symlink_to(tmp_path / "elsewhere" / "b.nii")
    monkeypatch.chdir(tmp_path / "work")
    asked = [Path("../in"), Path("../work/../in/a.nii"), Path("../in/link.nii")]
    images = [case.image for case in discover_cases(asked).cases]
    assert images == [tmp_path / "in" / "a.nii", tmp_path / "in" / "link.nii"]
    assert tidy_path(Path("..")) == tmp_path
    (tmp_path / "work" / "far").symlink_to(tmp_path / "elsewhere")
    assert tidy_path(Path("far/../in")) == tmp_path / "in", "above the link's target"


def test_one_name_for_two_scans_is_refused_for_both_and_for_no_other(tmp_path):
    (tmp_path / "x").mkdir()
    (tmp_path / "y").mkdir()
    touch(tmp_path / "x", "a.nii.gz", "b.nii.gz")
    touch(tmp_path / "y", "a.mha")
    found = discover_cases([tmp_path / "x", tmp_path / "y"])
    assert [case.case_id for case in found.cases] == ["b"]
    (refusal,) = found.refusals
    assert (refusal.case_id, refusal.kind) == ("a", "ambiguous")
    assert "a.nii.gz and " in refusal.message


@pytest.mark.parametrize("given", ["a.nii", "a.nii.gz"])
def test_a_compressed_twin_beside_a_scan_is_refused_even_if_not_asked_for(tmp_path, given):
    touch(tmp_path, "a.nii", "a.nii.gz")
    found = discover_cases([tmp_path / given])
    assert found.cases == ()
    assert "some readers take one for the other" in found.refusals[0].message


def test_a_folder_named_like_a_scan(tmp_path):
    touch(tmp_path, "b.nii")
    (tmp_path / "a.nii.gz").mkdir()
    found = discover_cases([tmp_path])
    assert [case.case_id for case in found.cases] == ["b"]
    assert "folder named like a scan" in found.refusals[0].message


def test_a_link_to_nothing(tmp_path):
    (tmp_path / "a.nii").symlink_to(tmp_path / "gone.nii")
    assert "link to nothing" in discover_cases([tmp_path]).refusals[0].message


def test_nothing_found_is_an_error(tmp_path):
    with pytest.raises(UsageError, match=r"no scan in .*expected files ending in \.nii\.gz"):
        discover_cases([tmp_path])
    with pytest.raises(UsageError, match="no such file or folder"):
        discover_cases([tmp_path / "absent"])


TREES = {
    "bids": (
        [
            "dataset_description.json",
            "sub-01/ses-1/ct/sub-01_ses-1_ct.nii.gz",
            "sub-01/ses-1/anat/sub-01_ses-1_T1w.nii.gz",
            "sub-02/ct/sub-02_ct.nii.gz",
            "derivatives/masks/sub-01/sub-01_ses-1_dseg.nii.gz",
        ],
        {"sub-01_ses-1": 1, "sub-02": 3},
    ),
    "verse": (
        [
            "rawdata/sub-verse501/sub-verse501_dir-ax_ct.nii.gz",
            "derivatives/sub-verse501/sub-verse501_dir-ax_seg-vert_msk.nii.gz",
        ],
        {"sub-verse501_dir-ax": 0},
    ),
    "totalsegmentator": (
        [
            "s0001/ct.nii.gz",
            "s0001/segmentations/vertebrae_L1.nii.gz",
            "s0002/ct.nii.gz",
        ],
        {"s0001": 0, "s0002": 2},
    ),
    "nnunet": (
        ["imagesTr/spine_001_0000.nii.gz", "labelsTr/spine_001.nii.gz"],
        {"spine_001": 0},
    ),
    "nested": (["a/b/c/scan.nii.gz", "d/scan.nii.gz"], {"a_b_c_scan": 0, "d_scan": 1}),
    "one name by two ways": (
        ["ct/x.nii.gz", "images/x.mha"],
        {"ct_x": 0, "images_x": 1},
    ),
    "results inside": (
        [
            "s0001/ct.nii.gz",
            "results/s0001/status.json",
            "results/s0001/step0_preparation/ct.nii.gz",
            "results/s0001/step3_vertebrae_segmentation/s0001_seg.nii.gz",
            ".hidden/ct.nii.gz",
        ],
        {"s0001": 0},
    ),
}


@pytest.mark.parametrize("name", TREES)
def test_a_tree_is_searched_and_its_cases_are_named_after_their_paths(tmp_path, name):
    files, expected = TREES[name]
    for file in files:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text("x")
    found = discover_cases([tmp_path])
    assert {case.case_id: case.image for case in found.cases} == {
        case_id: tmp_path / files[number] for case_id, number in expected.items()
    }
    assert found.refusals == ()


def test_links_in_a_tree_are_followed_once(tmp_path):
    (tmp_path / "in" / "s1").mkdir(parents=True)
    (tmp_path / "far" / "s2").mkdir(parents=True)
    touch(tmp_path / "in" / "s1", "ct.nii.gz")
    touch(tmp_path / "far" / "s2", "ct.nii.gz")
    for name, target in {"loop": "..", "again": "s1", "self": ".", "far": "../far"}.items():
        (tmp_path / "in" / name).symlink_to(target, target_is_directory=True)
    assert [case.case_id for case in discover_cases([tmp_path / "in"]).cases] == ["far_s2", "s1"]


@pytest.mark.parametrize("name", [".", "..", ".payerseg", ".hidden", "n" * 231, "é" * 116])
def test_names_that_no_result_can_have_are_refused(tmp_path, name):
    touch(tmp_path, "sound.nii")
    path = tmp_path / f"{name}.nii.gz"
    path.write_text("x")
    found = discover_cases([tmp_path / "sound.nii", path])
    assert [case.case_id for case in found.cases] == ["sound"]
    (refusal,) = found.refusals
    assert (refusal.case_id, refusal.kind) == (name, "usage")
    assert not may_have_folder(name)


@pytest.mark.parametrize("name", ["n" * 230, "=1+1", "a.b", "new\nline", "{case_id}", "con"])
def test_odd_names_are_names(tmp_path, name):
    touch(tmp_path, f"{name}.nii")
    assert [case.case_id for case in discover_cases([tmp_path]).cases] == [name]


def test_a_name_that_is_no_text_is_refused_by_kind_and_no_other(tmp_path):
    touch(tmp_path, "sound.nii", os.fsdecode(b"caf\xe9.nii"))
    found = discover_cases([tmp_path])
    assert [case.case_id for case in found.cases] == ["sound"]
    (refusal,) = found.refusals
    assert (refusal.case_id, refusal.kind) == ("caf\\xe9", "usage")
    assert refusal.message.isprintable()
    assert str(refusal.image).isprintable()


def test_a_name_that_the_locale_cannot_read_is_refused_with_the_cure(tmp_path, monkeypatch):
    touch(tmp_path, os.fsdecode(b"caf\xe9.nii"))
    monkeypatch.setattr(sys, "getfilesystemencoding", lambda: "ascii")
    (refusal,) = discover_cases([tmp_path]).refusals
    assert refusal.message.endswith(
        "is no valid ascii, so no result can be named after it; set PYTHONUTF8=1"
    )
    monkeypatch.setattr(os, "fsencode", lambda name: name.encode("ascii"))
    assert not may_have_folder("café")


def test_names_that_differ_in_case_only_are_told(tmp_path):
    touch(tmp_path, "Case.nii", "case.mha", "other.nii")
    found = discover_cases([tmp_path])
    assert len(found.cases) == 3
    assert found.notes == (
        "one folder on macOS and Windows, where case does not count: Case, case",
    )


def test_suffixes_keep_their_spelling():
    assert scan_suffix(Path("a.Nii.gZ")) == ".Nii.gZ"
    assert scan_suffix(Path("a.txt")) == ""


def test_cases_are_remembered_from_statuses_and_manifests(tmp_path):
    for name, status in [
        ("a", json.dumps({"case_id": "a", "status": "ok", "image": "/in/a.nii"})),
        ("b", "{"),
        ("c", None),
    ]:
        (tmp_path / name).mkdir()
        if status is not None:
            (tmp_path / name / "status.json").write_text(status)
    (tmp_path / "d" / "step0_preparation").mkdir(parents=True)
    (tmp_path / "d" / "step0_preparation" / "manifest.json").touch()
    (tmp_path / ".payerseg").mkdir()
    found = remembered_cases(tmp_path)
    assert [(case.case_id, case.image) for case in found] == [
        ("a", Path("/in/a.nii")),
        ("b", None),
        ("d", None),
    ]
    assert remembered_cases(tmp_path / "absent") == ()
