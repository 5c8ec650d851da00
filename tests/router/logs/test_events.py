"""Lines of the log: their form, level, request id and what is hidden in them."""

from __future__ import annotations

import logging
import os
from datetime import UTC, datetime

import orjson
import pytest
import structlog

from router.config.settings import LogSettings
from router.logs import events as logs


@pytest.fixture
def lines():
    """Collect the lines; put back what logging is set up with elsewhere."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield []
    root.handlers[:], root.level = before
    structlog.reset_defaults()


def configured(lines, **settings):
    logs.configure(LogSettings(**settings), lines.append)
    return logs.get_logger("dispatch")


def test_logfmt_line(lines):
    """One event is one line: time, level, area, event, then the fields."""
    log = configured(lines)

    log.info("request_done", model='a "b"\nc', tokens=12, ok=True)

    ts, rest = lines[0].decode().split(" ", 1)
    assert ts.startswith("ts=2")
    assert ts.endswith("Z")
    assert rest == (
        'level=info area=dispatch event=request_done model="a \\"b\\"\\nc"'
        " tokens=12 ok=true\n"
    )


def test_json_line(lines):
    """The same as one JSON object."""
    log = configured(lines, format="json")

    log.warning("node_down", node="rig", error=OSError("gone"))

    event = orjson.loads(lines[0])
    assert event.pop("ts")
    assert event == {
        "level": "warning",
        "area": "dispatch",
        "event": "node_down",
        "node": "rig",
        "error": "gone",
    }


def test_level_changes_for_loggers_that_exist(lines):
    """A reloaded level reaches the loggers that modules keep."""
    log = configured(lines, level="warning")
    log.info("unseen")
    logs.configure(LogSettings(level="debug"), lines.append)

    log.debug("seen")

    assert [b"event=seen" in line for line in lines] == [True]


@pytest.mark.parametrize(
    "fields",
    [
        {"token": "hunter2"},
        {"url": "http://me:hunter2@rig:1"},
        {"headers": {"Authorization": "hunter2"}},
        {"error": ValueError("sent Bearer hunter2")},
    ],
    ids=["name", "URL", "nested", "error"],
)
@pytest.mark.parametrize("form", ["logfmt", "json"])
def test_secrets_are_hidden(lines, fields, form):
    """Neither by name nor by shape does a secret reach a line."""
    configured(lines, format=form).info("called", **fields)

    assert b"***" in lines[0]
    assert b"hunter2" not in lines[0]


def test_secrets_in_tracebacks_are_hidden(lines):
    """An error's own text is scrubbed in its traceback too."""
    log = configured(lines)
    try:
        raise ValueError("GET http://me:hunter2@rig:1/ failed")  # noqa: TRY301
    except ValueError:
        log.exception("poll_failed")

    (line,) = lines
    assert b"ValueError: GET http://***@rig:1/ failed" in line


def test_third_parties_write_the_same_lines(lines):
    """Warnings of libraries come out in our form, chatter does not."""
    configured(lines)

    logging.getLogger("apscheduler.scheduler").warning("late by %s s", 3)
    logging.getLogger("urllib3").info("chatter")

    (line,) = lines
    assert b'level=warning area=apscheduler.scheduler event="late by 3 s"\n' in line


def test_writes_whole_lines_to_stderr(capfd):
    """Lines go to file descriptor 2 as they are."""
    logs.write_stderr(b"one\n" * 3)

    assert capfd.readouterr().err == "one\n" * 3


def test_closed_stderr_fails_nobody(capfd):
    """A log that cannot be written is lost, and no request with it."""
    kept = os.dup(2)
    os.close(2)
    try:
        logs.write_stderr(b"lost\n")
    finally:
        os.dup2(kept, 2)
        os.close(kept)

    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        (
            "logfmt",
            (
                b"ts=2026-01-02T03:04:05.000006Z level=info area=request event=request"
                b' path=/api/chat model="a \\"b\\"\\nc" node= status=200 seconds=0.5\n'
            ),
        ),
        (
            "json",
            (
                b'{"ts":"2026-01-02T03:04:05.000006Z","level":"info","area":"request",'
                b'"event":"request","path":"/api/chat",'
                b'"model":"a \\"b\\"\\nc","node":"",'
                b'"status":200,"seconds":0.5}\n'
            ),
        ),
    ],
)
def test_request_line(form, expected):
    """The line that is made by hand looks like the others, whatever a client sent."""
    lines: list[bytes] = []
    at = datetime(2026, 1, 2, 3, 4, 5, 6, UTC)
    log = logs.RequestLog(lambda: LogSettings(format=form), lines.append, lambda: at)
    log(
        {
            "path": "/api/chat",
            "model": 'a "b"\nc',
            "node": "",
            "status": 200,
            "seconds": 0.5,
        }
    )
    assert [expected] == lines


def test_request_line_below_the_level():
    """At level warning no request is told."""
    lines: list[bytes] = []
    log = logs.RequestLog(lambda: LogSettings(level="warning"), lines.append)
    log({"path": "/api/chat"})
    assert lines == []


EVIL = "\x1b]0;owned\x07 \r\x1b[2Kts=2026 level=info\x9b31m\u202e\u2028\x7f\x00\ud800 é"


@pytest.mark.parametrize("form", ["logfmt", "json"])
def test_bytes_that_a_terminal_obeys(lines, form):
    """What a node or a client wrote is shown, and does nothing."""
    log = configured(lines, format=form)
    log.info("node_down", why=EVIL, node=[EVIL], by={EVIL: EVIL}, error=OSError(EVIL))
    logs.RequestLog(lambda: LogSettings(format=form), lines.append)({"model": EVIL})
    for line in lines:
        text = line.decode()
        assert line.endswith(b"\n")
        assert text.count("\n") == 1
        shown = set(text) - {"\n"}
        assert {c for c in shown if not c.isprintable()} == set()
        assert "é" in text
        assert "owned" in text


def test_a_text_without_end_is_cut(lines):
    """A node's megabyte is a line of some thousand characters."""
    log = configured(lines)
    log.info("node_down", why="x" * 1_000_000)
    assert len(lines[0]) < 9000
    assert b"xxx..." in lines[0]
