import json
from pathlib import Path

from payerseg.config.schema import RunConfig
from payerseg.driver.run_folder import EventLog, RunFolder, last_run, new_run_id, read_weights
from payerseg.driver.settings import RunSettings
from payerseg.driver.status import remembered_settings


def test_run_ids_sort_by_time_and_differ():
    ids = [new_run_id() for _ in range(20)]
    assert len(set(ids)) == 20
    assert [item[:19] for item in ids] == sorted(item[:19] for item in ids)


def test_what_was_asked_can_be_read_back(tmp_path):
    weights = {"spine_localization": Path("/weights/one")}
    settings = RunSettings(tmp_path, (Path("/in"),), RunConfig(), weights, force=True)
    folder = RunFolder(settings.house_folder, "2026-01-01T00-00-00_0000")
    folder.open(settings, {"KERAS_BACKEND": "tensorflow"})
    assert last_run(settings.house_folder) == folder.root
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
