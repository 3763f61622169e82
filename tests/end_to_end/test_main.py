"""The main script as a user runs it: good scans, bad scans, from another folder, real processes.

The networks are set by hand (tests/conftest.py): they name vertebrae by their brightness.
"""

import csv
import json
import re
import shutil

import numpy as np
import pytest

from payerseg.imaging.files import read_scan, read_volume

MAIN = "main_test_overlap_cropped.py"
GOOD = {  # case id → grid, first and last level, as in conftest.py
    "lumbar": ("oblique", "T11", "L3"),
    "thoracic": ("anisotropic", "T9", "L1"),
    "third": ("far_origin", "T10", "L2"),
}
BAD_KINDS = {
    "bad_2d": "not_3d",
    "bad_4d": "not_3d",
    "bad_rgb": "not_3d",
    "bad_mri": "not_hounsfield",
    "bad_geometry": "bad_geometry",
    "bad_truncated": "unreadable",
    "bad_empty": "unreadable",
    "bad_text": "unreadable",
    "bad_directory": "unreadable",
    "bad_twice": "ambiguous",
}
VOLATILE = {"manifest.json", "status.json"}  # hold times and run names
TIMES_IN_PAGE = re.compile(rb"<summary>How this was made</summary>.*?</table>", re.DOTALL)


def artifacts_of(case_folder):
    """Relative path → content of everything a case's result consists of, but for the time it took."""
    return {
        str(path.relative_to(case_folder)): re.sub(TIMES_IN_PAGE, b"", path.read_bytes())
        for path in sorted(case_folder.rglob("*"))
        if path.is_file() and path.name not in VOLATILE
    }


@pytest.fixture(scope="module")
def good_run(run_program, repository, good_scans, weights_flags, tmp_path_factory):
    """The good scans alone, by the main script."""
    out = tmp_path_factory.mktemp("good_run") / "out"
    flags = ["--input_folder", good_scans, "--output_folder", out, *weights_flags]
    return run_program(repository / MAIN, *flags), out


@pytest.fixture(scope="module")
def mixed_run(run_program, good_scans, bad_scans, weights_flags, tmp_path_factory):
    """Good and bad scans in one folder, by `payerseg run --json`."""
    folder = tmp_path_factory.mktemp("mixed")
    shutil.copytree(good_scans, folder / "in")
    shutil.copytree(bad_scans, folder / "in", dirs_exist_ok=True)
    out = folder / "out"
    done = run_program("-m", "payerseg", "run", folder / "in", "-o", out, "--json", *weights_flags)
    return done, out


def test_good_scans_end_well_from_another_folder(good_run):
    done, out = good_run
    assert done.returncode == 0, done.stderr[-3000:]
    assert sorted(p.name for p in out.iterdir() if p.is_dir() and p.name != ".payerseg") == sorted(
        GOOD
    )
    assert done.stdout == "", "standard output is for --json"


@pytest.mark.parametrize("case_id", GOOD)
def test_masks_lie_on_the_exact_grid_of_the_input(good_run, good_scans, case_id):
    _, out = good_run
    scan = read_scan(next(good_scans.glob(f"{case_id}.*")))
    labels = read_volume(out / case_id / "step3_vertebrae_segmentation" / f"{case_id}_seg.nii.gz")
    assert labels.grid.same_space_as(scan.grid)
    assert labels.array.max() > 0


@pytest.mark.parametrize("case_id", GOOD)
def test_every_vertebra_is_named_and_segmented(good_run, case_id, synthetic_spine, synthetic_grids):
    _, out = good_run
    grid, first, last = GOOD[case_id]
    truth = synthetic_spine(synthetic_grids[grid](), first, last, coded=True)
    with (out / case_id / "step2_vertebrae_localization" / "landmarks.csv").open() as file:
        rows = {row["label"]: row for row in csv.DictReader(file)}
    assert list(rows) == [vertebra.name for vertebra in truth.landmarks]
    labels = read_volume(out / case_id / "step3_vertebrae_segmentation" / f"{case_id}_seg.nii.gz")
    for vertebra, mark in truth.landmarks.items():
        point = [float(rows[vertebra.name][axis]) for axis in "XYZ"]
        assert np.linalg.norm(np.subtract(point, mark.position_mm)) < 2
        index = labels.grid.map_world_to_indices([point])[0].round().astype(int)
        assert labels.array[tuple(index)] == vertebra.verse_label


def test_bad_scans_fail_with_their_reason_and_hinder_no_other(mixed_run):
    done, out = mixed_run
    assert done.returncode == 3, done.stderr[-3000:]
    cases = {case["case_id"]: case for case in json.loads(done.stdout)["cases"]}
    assert set(cases) == {*GOOD, *BAD_KINDS}
    for case_id, kind in BAD_KINDS.items():
        assert cases[case_id]["status"] == f"failed_preparation_{kind}", cases[case_id]
        assert len(cases[case_id]["message"]) > 20, cases[case_id]
    for case_id in GOOD:
        assert cases[case_id]["status"] in ("ok", "ok_needs_review"), cases[case_id]
    assert not list(out.glob("bad_*/step3*"))


@pytest.mark.parametrize("case_id", GOOD)
def test_good_scans_are_the_same_beside_bad_ones(good_run, mixed_run, case_id):
    alone, beside = (artifacts_of(out / case_id) for _, out in (good_run, mixed_run))
    assert alone.keys() == beside.keys()
    assert [name for name in alone if alone[name] != beside[name]] == []


def test_status_gives_every_reason_without_running(mixed_run, run_program):
    _, out = mixed_run
    done = run_program("-m", "payerseg", "status", out, "--json")
    assert done.returncode == 3, done.stderr[-3000:]
    cases = {case["case_id"]: case for case in json.loads(done.stdout)["cases"]}
    for case_id, kind in BAD_KINDS.items():
        assert cases[case_id]["status"] == f"failed_preparation_{kind}"
        assert cases[case_id]["message"]
    for case_id in GOOD:
        assert cases[case_id]["status"] in ("ok", "ok_needs_review")


def test_running_again_does_nothing(good_run, run_program, repository, good_scans, weights_flags):
    _, out = good_run
    before = {path: path.stat().st_mtime_ns for path in out.rglob("step*/*") if path.is_file()}
    flags = ["--input_folder", good_scans, "--output_folder", out, *weights_flags]
    done = run_program(repository / MAIN, *flags)
    assert done.returncode == 0, done.stderr[-3000:]
    after = {path: path.stat().st_mtime_ns for path in out.rglob("step*/*") if path.is_file()}
    assert after == before


def test_the_main_script_has_exactly_its_flags(run_program, repository):
    said = run_program(repository / MAIN, "--help").stdout
    flags = set(re.findall(r"(--\w[\w-]*)", said))
    steps = {f"--model_step{k}" for k in (1, 2, 3)}
    assert flags == {"--input_folder", "--output_folder", "--help", *steps}


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--input_folder", "absent", "--output_folder", "out"], "absent"),
        (["--output_folder", "out"], "--input_folder"),
        (["--input_folder", ".", "--output_folder", "out", "--bogus"], "--bogus"),
    ],
)
def test_wrong_use_is_exit_code_2(run_program, repository, weights_flags, flags, said):
    done = run_program(repository / MAIN, *flags, *weights_flags)
    assert done.returncode == 2
    assert said in done.stderr
