import json
from pathlib import Path

import pytest

from payerseg.driver.inputs import (
    case_id_of,
    discover_cases,
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
    assert found.notes == ("left aside as label maps, not scans, by their names: b_seg.nii.gz",)


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
