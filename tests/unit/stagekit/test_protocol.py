import json
import re
from pathlib import Path

import pytest

from payerseg.errors import ProtocolError
from payerseg.stagekit.protocol import (
    EVENT_TYPES,
    PROTOCOL,
    CaseRequest,
    EventName,
    ExitCode,
    StageRequest,
    WeightsRequest,
    decode_event,
    describe_exit,
    encode_event,
)

REQUEST = StageRequest(
    run_id="r",
    stage="spine_localization",
    stage_version=3,
    cases=(CaseRequest("a", Path("/out/a"), Path("/in/a.nii")), CaseRequest("b", Path("/out/b"))),
    config={"threshold": 0.5, "tiles": [1, 2]},
    weights=WeightsRequest(Path("/w"), "71aa"),
    seed=4,
    heartbeat_s=1.5,
)


def test_a_request_comes_back():
    assert StageRequest.from_json(REQUEST.to_json()) == REQUEST


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"protocol": PROTOCOL + 1}, f"speaks protocol {PROTOCOL + 1}"),
        ({"extra": 1}, "unknown field `\\$.extra`"),
        ({"cases": [{"case_id": "a"}]}, "required field `folder` - at `\\$.cases"),
        ({"seed": "x"}, "`\\$.seed`"),
        ({"weights": 5}, "`\\$.weights`"),
    ],
)
def test_another_request_is_refused(change, said):
    with pytest.raises(ProtocolError, match=said):
        StageRequest.from_json(json.dumps(json.loads(REQUEST.to_json()) | change))


@pytest.mark.parametrize("text", ["", "[]", "null"])
def test_what_is_no_request(text):
    with pytest.raises(ProtocolError):
        StageRequest.from_json(text)


def test_an_event_is_one_line_of_ascii():
    fields = {"case_id": "a", "key": "k", "value": "ü\nnext", "path": Path("/x")}
    line = encode_event(EventName.NOTE, 1.23456, fields)
    assert line.count(b"\n") == 1
    assert line.isascii()
    assert decode_event(line) == {"event": "note", "t": 1.235, **fields, "path": "/x"}


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"noise",
        b"[]",
        b"{}",
        b'{"event": 3}',
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"event": "case_done"}',
        b'{"event": "heartbeat", "rss_mb": "much", "peak_rss_mb": 1}',
        b'{"event": "stage_started", "pid": 1, "versions": [], "device": "cpu"}',
    ],
)
def test_noise_is_no_event(line):
    with pytest.raises(ProtocolError, match="not an event"):
        decode_event(line)


def test_an_event_of_a_newer_stage_passes():
    for line in (
        b'{"event": "sang", "t": 1}',
        b'{"event": "case_started", "case_id": "a", "x": 1}',
    ):
        assert decode_event(line)["event"] in ("sang", "case_started")


def test_exits_are_named():
    assert describe_exit(-9) == "SIGKILL(-9); probably the kernel's out-of-memory killer"
    assert describe_exit(-11).startswith("SIGSEGV(-11)")
    assert describe_exit(-200) == "signal 200(-200)"
    assert describe_exit(3) == "exit code 3 (SOME_FAILED)"
    assert describe_exit(77) == "exit code 77 (unknown)"


def test_the_page_lists_every_event_field_and_exit_code(repository):
    page = (repository / "docs" / "protocol.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \| ([^|]*) \|", page, re.MULTILINE))
    listed = {name: tuple(re.findall(r"\w+", rows[name])) for name in map(str, EventName)}
    assert listed == {str(name): tuple(kind.__annotations__) for name, kind in EVENT_TYPES.items()}
    codes = dict(re.findall(r"^\| (\d+) \| ([A-Z_]+) \|", page, re.MULTILINE))
    assert codes == {str(code.value): code.name for code in ExitCode}
    assert f"Protocol version: {PROTOCOL}" in page
