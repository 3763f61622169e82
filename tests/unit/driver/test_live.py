import io

from payerseg.driver.console import LiveDisplay, choose_listener, status_line
from payerseg.driver.messages import Notice, Progress, RunStarted, StageEvent

STAGES = ("preparation", "spine_localization", "vertebrae_localization")


def progress(done=1, n_cases=4, elapsed_s=10.0):
    left_s = elapsed_s / done * (n_cases - done) if done else None
    return Progress("spine_localization", 2, 3, done, n_cases, elapsed_s, left_s)


def test_the_line_holds_stage_cases_and_time():
    line = status_line(progress(), "sub-1: predict 2/3", STAGES)
    # 30 s for three more cases here; the next stage costs three times as much per case: 4 * 30 s
    assert "2/3 spine_localization" in line
    assert "1/4 cases" in line
    assert "about 2 min 30 s left" in line
    assert line.endswith("sub-1: predict 2/3")


def test_no_time_is_guessed_before_the_first_case():
    assert "left" not in status_line(progress(done=0), "", STAGES)


def test_lines_stay_and_the_live_line_is_redrawn(monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    stream, kept = io.StringIO(), []
    display = LiveDisplay(kept.append, stream)
    display(RunStarted("r", None, 4, STAGES))
    event = {"event": "progress", "case_id": "sub-1", "step": "predict", "done": 2, "total": 3}
    display(StageEvent(event, progress()))
    shown = stream.getvalue()
    assert "sub-1: predict 2/3" in shown
    display(StageEvent(event, progress()))
    assert stream.getvalue() == shown, "the same line is not drawn twice"
    display(Notice("look"))
    assert stream.getvalue().endswith("\r\x1b[2K"), "the live line is erased before a line stays"
    assert [type(message).__name__ for message in kept] == ["RunStarted", "Notice"]


def test_a_narrow_terminal_gets_a_shorter_line(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    stream = io.StringIO()
    LiveDisplay(lambda _: None, stream)(
        StageEvent({"event": "case_started", "case_id": "x"}, progress())
    )
    assert len(stream.getvalue().removeprefix("\r\x1b[2K")) == 39


def test_without_a_terminal_there_are_plain_lines_only():
    def lines(message):
        pass

    assert choose_listener(lines, io.StringIO()) is lines
