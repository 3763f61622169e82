"""`run`, `status` and `stage` on real results; only the first stage runs, so it takes seconds."""

import json

import pytest

from payerseg.cli.app import payerseg, run_guarded
from payerseg.errors import ConfigError
from payerseg.imaging.files import write_volume


@pytest.fixture(scope="module")
def output(tmp_path_factory, synthetic_spine):
    """Results of one good and one bad scan, prepared only."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "in").mkdir()
    write_volume(synthetic_spine().ct, folder / "in" / "good.nii.gz")
    (folder / "in" / "bad.nii.gz").write_bytes(b"")
    arguments = ["run", folder / "in", "-o", folder / "out", "--to-stage", "preparation"]
    arguments += ["--set", "preparation.max_spacing_mm=11"]
    assert run_guarded(payerseg, [str(a) for a in arguments]) == 3
    return folder / "out"


def call(capsys, *arguments):
    capsys.readouterr()
    code = run_guarded(payerseg, [str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return code, out, err


def test_status_says_how_each_case_ended_and_what_is_missing(output, capsys):
    code, out, _ = call(capsys, "status", output)
    assert code == 3
    assert "bad   failed_preparation_unreadable" in out
    assert "empty (0 bytes)" in out
    assert "good  done_to_preparation (stale)" in out
    assert "spine_localization · stale: no result yet" in out


def test_status_judges_by_the_last_run_or_as_asked(output, capsys):
    *_, out, _ = call(capsys, "status", output, "--only-case", "good", "--json")
    (case,) = json.loads(out)["cases"]
    assert case["status"] == "done_to_preparation"
    assert case["stages"]["preparation"] == {"state": "fresh", "reasons": []}
    *_, out, _ = call(
        capsys, *("status", output, "--only-case", "good", "--set", "preparation.max_spacing_mm=9")
    )
    assert "preparation · stale: setting max_spacing_mm 11.0 → 9.0" in out


def test_a_preset_replaces_the_last_runs_settings(output, capsys):
    *_, out, _ = call(capsys, "status", output, "--only-case", "good", "--preset", "small_memory")
    assert "setting max_spacing_mm 11.0 → 12.0" in out


def test_stage_runs_again_with_the_last_settings(output, capsys):
    arguments = ("stage", "preparation", output, "--only-case", "good")
    code, out, err = call(capsys, *arguments, "--json")
    assert code == 0, err
    (case,) = json.loads(out)["cases"]
    assert case["stages"]["preparation"]["state"] == "done"
    code, out, _ = call(capsys, *arguments, "--json", "--if-stale")
    (case,) = json.loads(out)["cases"]
    assert case["stages"]["preparation"]["state"] == "fresh"


def test_stage_wants_known_names(output, capsys):
    code, _, err = call(capsys, "stage", "preparations", output)
    assert code == 2
    assert "vertebrae_localization" in err
    code, _, err = call(capsys, "stage", "preparation", output, "--only-case", "god")
    assert code == 2
    assert "did you mean 'good'" in err


@pytest.mark.parametrize("command", [["status"], ["stage", "preparation"]])
def test_a_folder_without_results_is_refused(command, tmp_path, capsys):
    code, _, err = call(capsys, *command, tmp_path)
    assert code == 2
    assert "holds no record of a run" in err


def test_a_wrong_setting_is_refused_before_anything(output):
    with pytest.raises(ConfigError, match="did you mean"):
        payerseg.main(
            ["status", str(output), "--set", "preparation.max_spacin_mm=9"], standalone_mode=False
        )
