"""Every way a stage can misbehave costs at most the case in flight, and is named."""

import json

import pytest

from payerseg.driver.messages import CaseEnded, RunEnded
from payerseg.driver.preflight import check_device
from payerseg.driver.settings import plan_stages
from payerseg.errors import ConfigError
from payerseg.results.status import StageState

QUICK_TIMERS = {"silence_s": 1.0, "case_s": 2.0}


def failure(summary, case_id, stage="spine_localization"):
    case = next(case for case in summary.cases if case.case_id == case_id)
    outcome = case.stages[stage]
    assert outcome.state is StageState.FAILED, outcome
    assert case.status == f"failed_{stage}_{outcome.kind}"
    return outcome.kind, outcome.message


@pytest.mark.parametrize(
    ("behaviour", "kind", "said"),
    [
        ("segfault", "crashed", "SIGSEGV(-11)"),
        ("kill_itself", "crashed", "SIGKILL(-9); probably the kernel's out-of-memory killer"),
        ("sleep", "timeout", "took longer than 2 s"),
        ("freeze", "frozen", "no sign of life for 1 s"),
        ("ignore_sigterm", "timeout", "took longer than 2 s"),
        ("end_early", "crashed", "ended without stage_finished, with exit code 0"),
        ("fill_disk", "out_of_resources", "the disk is full while writing"),
        ("out_of_memory", "out_of_memory", "memory ran out"),
        ("bug", "bug", "KeyError: 'nobody thought of this'"),
        ("write_nothing", "artifact", "ended without writing derived"),
    ],
)
def test_a_bad_case_is_named_and_the_others_go_on(bench, behaviour, kind, said):
    bench.scans(a_good="one", b_bad=behaviour, c_good="three")
    summary = bench.run(driver=QUICK_TIMERS)
    found_kind, message = failure(summary, "b_bad")
    assert found_kind == kind
    assert said in message
    assert summary.exit_code == 3
    assert bench.statuses(summary)["a_good"] == bench.statuses(summary)["c_good"] == "ok"
    out = bench.output / "c_good" / "step1_spine_localization" / "c_good_derived.txt"
    assert out.read_text() == "THREE 0.3\n"
    bad = bench.output / "b_bad" / "step1_spine_localization"
    assert not (bad / "manifest.json").exists()
    assert [path for path in bad.rglob("*") if path.is_file()] == [], "half-written files stayed"


@pytest.mark.parametrize("behaviour", ["noise", "flood", "leave_grandchild", "extra"])
def test_what_is_only_odd_does_no_harm(bench, behaviour):
    bench.scans(a=behaviour, b="two")
    summary = bench.run(driver=QUICK_TIMERS)
    assert bench.statuses(summary) == {"a": "ok", "b": "ok"}
    assert summary.exit_code == 0
    assert summary.notices == ()


def test_noise_lands_in_the_log_not_between_the_events(bench):
    bench.scans(a="noise")
    bench.run()
    log = next(bench.output.glob(".payerseg/runs/*/1_spine_localization/*.stderr.log")).read_text()
    assert "a print" in log
    assert log.count("native noise") == 100
    assert "noise of a grandchild" in log
    events = next(bench.output.glob(".payerseg/runs/*/1_*/*.events.jsonl")).read_text()
    assert "noise" not in events
    assert [json.loads(line)["event"] for line in events.splitlines()][-1] == "stage_finished"


def test_restarts_are_limited_and_the_rest_is_not_run(bench):
    bench.scans(a="segfault", b="segfault", c="segfault", d="four")
    summary = bench.run(driver={"max_restarts": 2})
    states = bench.stage_states(summary, "spine_localization")
    assert states == {"a": "failed", "b": "failed", "c": "failed", "d": "not_run"}
    assert bench.statuses(summary)["d"] == "not_run"
    again = bench.run(driver={"max_restarts": 3})
    assert bench.statuses(again)["d"] == "ok"


def test_a_crashed_case_is_not_retried_by_itself(bench):
    bench.scans(a="segfault", b="two")
    bench.run()
    requests = sorted(bench.output.glob(".payerseg/runs/*/1_*/request-*.json"))
    asked = [[case["case_id"] for case in json.loads(r.read_text())["cases"]] for r in requests]
    assert asked == [["a", "b"], ["b"]]


@pytest.mark.parametrize(
    ("trick", "kind", "exit_code", "said"),
    [
        ("reject", "bundle", 2, "for another stage"),
        ("bug", "bug", 1, "KeyError"),
        ("memory", "out_of_memory", 3, "memory ran out"),
        ("segfault", "crashed", 3, "before its first case the process ended by SIGSEGV"),
        ("hang", "timeout", 3, "took longer than 2 s"),
        ("slow_import", "timeout", 3, "did not start within 1.5 s"),
    ],
)
def test_a_stage_that_cannot_begin(bench, monkeypatch, trick, kind, exit_code, said):
    monkeypatch.setenv("FAKE_SETUP", trick)
    bench.scans(a="one", b="two")
    summary = bench.run(
        driver={"case_s": 2.0, "startup_s": 1.5 if trick == "slow_import" else 30.0}
    )
    for case_id in "ab":
        found, message = failure(summary, case_id)
        assert (found, said in message) == (kind, True), message
    assert summary.exit_code == exit_code
    n_processes = len(list(bench.output.glob(".payerseg/runs/*/1_*/request-*.json")))
    assert n_processes == 1, "what cannot begin is not tried again"


def test_a_refused_scan_blocks_its_later_stages_only(bench):
    bench.scans(a="bad", b="two", c="empty")
    summary = bench.run()
    assert bench.statuses(summary) == {
        "a": "failed_preparation_unreadable",
        "b": "ok",
        "c": "no_spine",
    }
    states = bench.stage_states(summary, "spine_localization")
    assert states == {"a": "blocked", "b": "done", "c": "no_spine"}
    assert summary.exit_code == 3


def test_no_spine_is_a_result(bench):
    bench.scans(c="empty")
    assert bench.run().exit_code == 0
    again = bench.run()
    assert bench.statuses(again) == {"c": "no_spine"}
    assert not list(bench.output.glob(".payerseg/runs/*/1_*")), "the stage after it never ran"


def test_needs_review_is_a_status(bench):
    bench.scans(a="review")
    for _ in range(2):
        summary = bench.run()
        assert bench.statuses(summary) == {"a": "ok_needs_review"}
        message = "spine_localization: the level is uncertain; one mask is small"
        assert summary.cases[0].message == message
        assert summary.exit_code == 0


def test_costs_are_recorded(bench):
    bench.scans(a="one", b="segfault")
    summary = bench.run()
    stages = [process.stage for process in summary.processes]
    assert stages == ["preparation", "spine_localization"]
    finished, crashed = summary.processes
    assert finished.cpu_seconds > 0
    assert 0 < finished.setup_seconds <= finished.seconds
    assert 5 < finished.peak_rss_mb < 500
    assert "python" in finished.versions
    assert "SIGSEGV" in crashed.ending
    manifest = json.loads((bench.output / "a/step1_spine_localization/manifest.json").read_text())
    assert manifest["peak_rss_mb"] > 5
    written = json.loads(next(bench.output.glob(".payerseg/runs/*/summary.json")).read_text())
    assert written == json.loads(summary.to_json())


def test_listeners_hear_progress_with_an_estimate(bench):
    bench.scans(a="one", b="two", c="three")
    bench.run()
    ended = [m for m in bench.messages if isinstance(m, CaseEnded) and m.stage != "preparation"]
    assert [m.progress.cases_done for m in ended] == [1, 2, 3]
    assert ended[0].progress.left_s > 0
    assert ended[2].progress.left_s == 0
    assert (ended[0].progress.stage_number, ended[0].progress.n_stages) == (2, 2)
    assert isinstance(bench.messages[-1], RunEnded)


def test_a_device_that_is_not_there_is_refused_before_the_first_case(bench, monkeypatch):
    bench.scans(a="one")
    settings = bench.settings()
    plan = plan_stages(settings, settings.open_memo())[1]
    check_device(plan, settings)
    monkeypatch.setenv("FAKE_SETUP", "reject")
    with pytest.raises(ConfigError, match="these weights are for another stage"):
        check_device(plan, settings)
    assert not bench.output.exists()


def test_a_process_that_dies_before_it_takes_the_old_result_away_has_made_none(bench, monkeypatch):
    bench.scans(a="one")
    bench.run()
    bench.scans(a="two")
    monkeypatch.setenv("FAKE_DIE_AT", "1")
    assert bench.statuses(bench.run()) == {"a": "failed_preparation_crashed"}
    monkeypatch.delenv("FAKE_DIE_AT")
    assert bench.statuses(bench.run()) == {"a": "ok"}
