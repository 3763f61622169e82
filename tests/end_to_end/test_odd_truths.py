"""`payerseg evaluate` on the odd truths and results of the shared folder, each as its script says."""

import json
import subprocess
import sys

import pytest

from payerseg.cli.app import payerseg, run_guarded

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def made(shared_dir, tmp_path_factory):
    """Run a script of the shared folder and return what it wrote."""

    def make(name):
        script = shared_dir / "cases" / f"{name}.py"
        if not script.is_file():
            pytest.skip(f"no {script}")
        out = tmp_path_factory.mktemp(name)
        subprocess.run([sys.executable, script, out], check=True, capture_output=True)
        return out

    return make


def evaluate(capsys, *arguments):
    capsys.readouterr()
    code = run_guarded(payerseg, ["evaluate", *map(str, arguments), "--no-surfaces"])
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    return code, out, err


def dice_of(out):
    (figures,) = json.loads((out / "summary.json").read_text())["figures"]
    return figures["dice"]["value"]


def test_one_bad_truth_of_three(made, capsys, tmp_path):
    out = made("truth_sets")
    truths = sorted(out.glob("truth_*"))
    assert len(truths) >= 10
    for truth in truths:
        code, text, err = evaluate(capsys, out / "results", "--truth", truth, "-o", tmp_path)
        said = json.loads((tmp_path / "summary.json").read_text())
        assert "s1" in said["left_out"] or "s1" in said["notes"] or code == 0, truth.name
        assert code in (0, 3), (truth.name, err)
        if truth.name not in ("truth_empty_map", "truth_closed", "truth_points_bad"):
            assert "2 (6)" in text, truth.name
        assert dice_of(tmp_path) == 1.0, truth.name


def test_one_bad_result_of_three(made, capsys):
    out = made("truth_sets")
    code, text, err = evaluate(capsys, out / "results_truncated", "--truth", out / "good")
    assert (code, "3 (9)" in text, "s1: counted as missed" in err) == (3, True, True)


def test_grids_that_differ_a_little(made, capsys, tmp_path):
    out = made("grid_tolerance")
    base = (out / "results", "--truth", out / "truth", "-o", tmp_path)
    code, _, err = evaluate(capsys, *base)
    assert (code, dice_of(tmp_path)) == (3, 1.0)
    said = json.loads((tmp_path / "summary.json").read_text())
    assert set(said["left_out"]) == {"half", "micro"}, err
    assert {"rounded", "origin3"} <= set(said["notes"]), "what is tolerated is told"
    code, *_ = evaluate(capsys, *base, "--resample", "--only-case", "half")
    assert code == 0


def test_a_file_per_vertebra(made, capsys, tmp_path):
    out = made("evaluate_one_file_per_vertebra")
    truth = ("--truth", out / "truth", "--layout", "loose", "--scheme", "totalsegmentator")
    code, *_ = evaluate(capsys, out / "results", *truth, "-o", tmp_path)
    assert (code, dice_of(tmp_path)) == (0, 1.0)


def test_label_maps_with_a_long_header_extension(made, capsys, tmp_path):
    out = made("nifti_extension")
    truth = ("--truth", out / "truth", "--scheme", "totalsegmentator")
    code, *_ = evaluate(capsys, out / "labels", *truth, "-o", tmp_path)
    assert (code, dice_of(tmp_path)) == (0, 1.0)
