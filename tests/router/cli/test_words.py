"""What the command line says of a job, without a router or a terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from router.cli import words
from router.cli.client import Client, CliError, ServerEvent, events
from router.cli.outcome import Exit, exit_of
from router.cli.terms import fields_of, options_of, text_of
from router.cli.upload import MultipartBody

ITEMS = {"total": 500, "waiting": 298, "running": 8, "done": 192, "failed": 2}
STATE: dict[str, Any] = {
    "state": "in_progress",
    "paused": False,
    "why_idle": None,
    "progress": {
        "items": ITEMS | {"cancelled": 0},
        "merges": {"total": 24, "done": 23},
        "rows_read": 500,
        "rate": 4.24,
        "eta_seconds": 73.0,
        "tokens_per_second": 1830.1,
        "retries": 3,
        "revoked": 0,
        "nodes": {"rig-4090": 4, "rig-3090": 4},
        "seconds": 3675.0,
    },
}


def test_a_line_says_all_of_a_job():
    """Counts, rate, ETA, tokens, failures, merges, retries, nodes."""
    assert (
        "in_progress 194/500 · 4.2 items/s · ETA 1:13 · 1,830 tokens/s · 2 failed ·"
        " merges 23/24 · 3 retries · on rig-4090 4, rig-3090 4"
    ) == words.line(STATE)


def test_a_line_says_why_nothing_runs():
    """What cannot be told is a dash; an idle job gives its reason."""
    figures = dict.fromkeys(("rate", "eta_seconds", "tokens_per_second"))
    progress = STATE["progress"] | figures | {"nodes": {}}
    idle = STATE | {"why_idle": "people are using every slot", "progress": progress}
    assert "- items/s · ETA - · - tokens/s" in words.line(idle)
    assert words.line(idle).endswith("idle: people are using every slot")


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(None, "-"), (0, "0:00"), (65.4, "1:05"), (7384, "2:03:04")],
)
def test_spans(seconds, expected):
    """Minutes and seconds; hours where there are some."""
    assert expected == words.span(seconds)


def test_an_ending_says_how_it_went():
    """With the first faults of the file below."""
    job = STATE | {"id": "batch_1", "state": "failed", "faults": [{"message": "m"}] * 5}
    assert (
        "batch_1 failed: 192 of 500 items done, 2 failed, in 1:01:15\n  m\n  m\n  m"
    ) == words.ending(job)


@pytest.mark.parametrize(
    ("state", "failed", "expected"),
    [
        ("completed", 0, Exit.DONE),
        ("completed", 1, Exit.INCOMPLETE),
        ("failed", 0, Exit.INCOMPLETE),
        ("cancelled", 0, Exit.INCOMPLETE),
        ("expired", 0, Exit.INCOMPLETE),
    ],
)
def test_exit_codes_of_jobs(state, failed, expected):
    """0 means that every item has its answer."""
    job = {"state": state, "progress": {"items": {"failed": failed}}}
    assert expected == exit_of(job)


def test_events_are_read_as_browsers_do():
    """Comments, several data lines, an event that is cut off."""
    lines = b"retry: 2000\n\n: ping\n\nevent: a\ndata: {\ndata: }\n\nevent: b\ndata: {}"
    assert [ServerEvent("a", {})] == list(events(lines.split(b"\n")))


def test_an_upload_is_a_form_of_known_length(tmp_path):
    """What is read is as long as was said, and a quote in a name breaks nothing."""
    path = tmp_path / 'a"b.csv'
    path.write_bytes(b"x" * 600_000)
    told = []
    with path.open("rb") as file:
        form = MultipartBody(
            {"model": "m"}, path, file, lambda *done: told.append(done)
        )
        pieces = list(iter(form.read, b""))
    body = b"".join(pieces)
    assert len(form) == len(body)
    assert b'name="model"\r\n\r\nm\r\n' in body
    assert b'filename="a%22b.csv"' in body
    assert 300_000 > max(map(len, pieces))
    assert (len(form), len(form)) == told[-1]


def terms(**given):
    return {"template": "t", "option": ()} | given


def test_terms_are_a_form():
    """Only what was given is sent; objects as JSON."""
    asked = terms(
        model="m",
        reducer="tree",
        threshold=4,
        option=["temperature=0", "stop=\\n"],
        header=False,
    )
    assert {
        "model": "m",
        "template": "t",
        "options": '{"temperature":0,"stop":"\\\\n"}',
        "reducer": '{"kind":"tree","threshold":4}',
        "header": "false",
    } == fields_of(asked)


def test_a_look_is_told_in_words():
    """How the file was read, what was guessed, and which columns it has."""
    shown = {
        "format": "csv",
        "reading": {"encoding": "cp1252", "delimiter": "semicolon", "header": True},
        "columns": ["id", "text"],
        "notes": ["the delimiter is a guess: semicolon"],
    }
    assert (
        "csv, cp1252, delimiter: semicolon, names in the first line; columns: id, text"
        "\n  note: the delimiter is a guess: semicolon" == words.reading(shown)
    )


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"state": "in_progress", "paused": False}, "in_progress"),
        ({"state": "in_progress", "paused": True, "parked": None}, "paused"),
        ({"state": "validating", "paused": True, "parked": "it died"}, "parked"),
        ({"state": "completed", "paused": True}, "completed"),
    ],
)
def test_a_state_in_words(fields, said):
    """Whether it is kept from running is part of it."""
    assert said == words.state_of(fields)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: options_of(["temperature"]), "--option must be NAME=VALUE, got 'tem"),
        (lambda: text_of("@/nowhere"), "'/nowhere' cannot be read"),
        (lambda: fields_of(terms(threshold=3)), "--threshold needs a --reducer"),
        (
            lambda: fields_of(terms(merge_prompt="p")),
            "--merge-prompt needs a --reducer",
        ),
        (lambda: Client("localhost:8000"), "--url must begin with http://, got 'local"),
        (
            lambda: Client("http://x").send({}, Path("/nowhere"), print),
            "'/nowhere' cannot be read: No such file or directory",
        ),
    ],
    ids=["option", "file of a text", "threshold", "prompt", "url", "dataset"],
)
def test_wrong_arguments_are_told_in_words(call, message):
    """Before anything is asked of a router."""
    with pytest.raises(CliError) as error:
        call()
    assert str(error.value).startswith(message)
    assert Exit.USAGE == error.value.exit


def test_texts_may_come_from_files(tmp_path):
    """A long template is easier kept in a file."""
    path = tmp_path / "template"
    path.write_text("Summarise:\n{{ text }}")
    assert ("Summarise:\n{{ text }}", "plain", None) == (
        text_of(f"@{path}"),
        text_of("plain"),
        text_of(None),
    )
