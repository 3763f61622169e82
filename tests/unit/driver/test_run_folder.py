import json
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from payerseg.config.schema import RunConfig
from payerseg.driver.run_folder import (
    EventLog,
    RunFolder,
    last_run,
    new_run_id,
    read_weights,
    runs_in_order,
)
from payerseg.driver.settings import RunSettings
from payerseg.driver.status import remembered_settings
from payerseg.errors import UsageError


def test_run_ids_are_numbered_whatever_the_clock_says(tmp_path):
    names = ["2031-01-01T00-00-00_aaaa", "2099-01-01T00-00-00_aaaa"]
    for _ in range(12):
        names.append(new_run_id(tmp_path))
        (tmp_path / "runs" / names[-1]).mkdir(parents=True)
    for name in names[:2]:
        (tmp_path / "runs" / name).mkdir()
    assert len(set(names)) == 14
    assert [path.name for path in runs_in_order(tmp_path)] == names
    assert names[2].startswith("00001_20")
    assert names[-1].startswith("00012_20")


def test_run_ids_tell_the_time_in_utc(tmp_path, monkeypatch):
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        assert f"_{datetime.now(UTC):%Y-%m-%dT%H}" in new_run_id(tmp_path)
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize(
    "text", ["{}", "[]", '{"weights": []}', '{"weights": {"a": 5}}', "[" * 100_000, None]
)
def test_a_damaged_record_of_the_last_run_is_named(tmp_path, text):
    if text is not None:
        (tmp_path / "run.json").write_text(text)
    with pytest.raises(UsageError) as caught:
        read_weights(tmp_path)
    assert str(tmp_path / "run.json") in str(caught.value)


def test_a_record_of_an_earlier_version_is_read(tmp_path):
    facts = {"run_id": "r", "inputs": ["/in"], "weights": {"a": "/w"}, "from_stage": None}
    facts |= {
        "to_stage": None,
        "force": False,
        "only_cases": [],
        "shard": [1, 2],
        "environment": {},
    }
    (tmp_path / "run.json").write_text(json.dumps(facts))
    assert read_weights(tmp_path) == {"a": Path("/w")}


def test_what_was_asked_can_be_read_back(tmp_path):
    weights = {"spine_localization": Path("/weights/one")}
    settings = RunSettings(tmp_path, (Path("/in"),), RunConfig(), weights, force=True)
    folder = RunFolder(settings.driver_folder, "2026-01-01T00-00-00_0000")
    folder.open(settings, {"KERAS_BACKEND": "tensorflow"})
    assert last_run(settings.driver_folder) == folder.root
    assert read_weights(folder.root) == weights
    again = remembered_settings(tmp_path)
    assert (again.config, again.weights) == (settings.config, weights)
    facts = json.loads((folder.root / "run.json").read_text())
    assert facts["environment"] == {"KERAS_BACKEND": "tensorflow"}


def test_no_run_yet(tmp_path):
    assert last_run(tmp_path) is None


def test_a_log_that_cannot_be_written_costs_the_log_only(tmp_path):
    log = EventLog(tmp_path / "absent" / "events.jsonl")
    log.write({"event": "heartbeat"})
    log.close()
    assert "cannot log events" in log.trouble
    log = EventLog(Path("/dev/full"))
    for _ in range(3):
        log.write({"event": "heartbeat"})
    log.close()
    assert "no longer logged: No space left" in log.trouble
