import os
from dataclasses import replace
from pathlib import Path

import pytest

from payerseg.config.schema import DriverConfig
from payerseg.driver.preflight import check_before_start
from payerseg.driver.settings import RunSettings
from payerseg.driver.supervisor import child_environment, chosen_variables
from payerseg.errors import BundleError, ConfigError, UsageError
from payerseg.results.fingerprint import HashMemo
from payerseg.stagekit.catalog import PREPARATION


@pytest.fixture
def settings(tmp_path):
    (tmp_path / "in").mkdir()
    for case_id in ("a", "b", "c", "d"):
        (tmp_path / "in" / f"{case_id}.nii").write_text(case_id)
    return RunSettings(tmp_path / "out", (tmp_path / "in",), pipeline=(PREPARATION,))


def check(settings, **changes):
    return check_before_start(replace(settings, **changes), HashMemo())


def ids(preflight):
    return [case.case_id for case in preflight.cases]


def test_nothing_is_written(settings):
    assert ids(check(settings)) == ["a", "b", "c", "d"]
    assert not settings.output.exists()


def test_shards_are_disjoint_and_complete(settings):
    parts = [ids(check(settings, shard=(i, 3))) for i in (1, 2, 3)]
    assert sorted(case_id for part in parts for case_id in part) == ["a", "b", "c", "d"]


def test_a_shard_does_not_depend_on_its_neighbours(settings):
    before = ids(check(settings, shard=(1, 2)))
    (settings.inputs[0] / "e.nii").write_text("e")
    assert [case_id for case_id in ids(check(settings, shard=(1, 2))) if case_id != "e"] == before


@pytest.mark.parametrize("shard", [(0, 2), (3, 2)])
def test_a_shard_that_is_none(settings, shard):
    with pytest.raises(UsageError, match="1 <= I <= N"):
        check(settings, shard=shard)


def test_only_case(settings):
    assert ids(check(settings, only_cases=("b", "d"))) == ["b", "d"]
    (settings.inputs[0] / "spine-1.nii").write_text("e")
    with pytest.raises(UsageError, match="did you mean 'spine-1'"):
        check(settings, only_cases=("spine1",))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"from_stage": "prepare"}, "no stage 'prepare'; stages are preparation"),
        ({"output": Path("relative")}, "is not absolute"),
        ({"inputs": ()}, "holds no results"),
    ],
)
def test_what_cannot_work_is_said_at_once(settings, changes, said):
    with pytest.raises(UsageError, match=said):
        check(settings, **changes)


def test_stages_in_the_wrong_order(settings):
    from payerseg.stagekit.catalog import PIPELINE

    with pytest.raises(UsageError, match="comes before"):
        check(settings, pipeline=PIPELINE, from_stage="quality_report", to_stage="preparation")


def test_an_output_that_is_a_file(settings):
    settings.output.write_text("x")
    with pytest.raises(UsageError, match="is a file; expected a folder"):
        check(settings)


def test_an_output_whose_name_is_no_text(settings):
    with pytest.raises(UsageError, match=r"caf\\xe9 is no valid utf-8"):
        check(settings, output=settings.output / os.fsdecode(b"caf\xe9"))


def test_a_case_folder_that_is_a_file_refuses_that_case_only(settings):
    settings.output.mkdir()
    (settings.output / "b").write_text("x")
    found = check(settings)
    assert ids(found) == ["a", "c", "d"]
    assert found.refusals[0].case_id == "b"


def test_missing_weights_fail_before_the_long_work(settings, tmp_path):
    from payerseg.stagekit.catalog import PIPELINE

    with pytest.raises(BundleError, match="--model_step1"):
        check(settings, pipeline=PIPELINE)
    weights = {"spine_localization": tmp_path / "none"}
    with pytest.raises(BundleError, match="no weights at"):
        check(settings, pipeline=PIPELINE, weights=weights)
    assert check(settings, pipeline=PIPELINE, to_stage="preparation").cases


def test_little_space_is_told(settings, monkeypatch):
    import shutil
    from collections import namedtuple

    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10, 9, 1))
    assert "0.0 GB free" in check(settings).notices[0]


@pytest.mark.parametrize(
    ("device", "variables"),
    [
        ("auto", {}),
        ("gpu", {}),
        ("cpu", {"CUDA_VISIBLE_DEVICES": "-1", "JAX_PLATFORMS": "cpu"}),
        ("gpu:2", {"CUDA_VISIBLE_DEVICES": "2"}),
    ],
)
def test_devices(device, variables):
    chosen = chosen_variables(DriverConfig(device=device), {})
    names = ("CUDA_VISIBLE_DEVICES", "JAX_PLATFORMS")
    assert {name: chosen[name] for name in names if name in chosen} == variables


def test_an_unknown_device_is_refused_early():
    with pytest.raises(ConfigError, match="gpu:N"):
        DriverConfig(device="tpu")


def test_threads_and_the_inherited_environment():
    inherited = {"PYTHONPATH": "/mine", "HOME": "/home", "TF_CPP_MIN_LOG_LEVEL": "0"}
    found = child_environment(DriverConfig(threads=3), inherited)
    assert found["OMP_NUM_THREADS"] == found["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] == "3"
    assert found["HOME"] == "/home"
    assert found["PYTHONPATH"].endswith(":/mine")
    assert found["TF_CPP_MIN_LOG_LEVEL"] == "0"
    assert "OMP_NUM_THREADS" not in child_environment(DriverConfig(), {})
