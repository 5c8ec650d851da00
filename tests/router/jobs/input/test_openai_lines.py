"""OpenAI's lines: what is wrong with each is told by line and column."""

from __future__ import annotations

import io

import orjson
import pytest

from router.jobs.input.openai_lines import Line, Requests, most_tokens, split
from router.jobs.model import CHAT, Format, JobSpec
from router.jobs.planning.length_predictor import Lengths

SPEC = JobSpec(CHAT, "file-1", Format.OPENAI)


def line(**changes):
    fields = {
        "custom_id": "a",
        "method": "POST",
        "url": CHAT,
        "body": {"model": "m", "messages": []},
        **changes,
    }
    return orjson.dumps({k: v for k, v in fields.items() if v is not ...})


def read(*lines, longest=1000):
    source = io.BytesIO(b"\n".join(lines))
    return list(Requests(SPEC, Lengths(), longest).read(source))


def test_a_request_becomes_an_item():
    """Its model by the full name, its body as it was."""
    (item,) = read(line(body={"model": "m", "messages": [], "max_tokens": 9}))
    assert ("0", "a", "m:latest", 9.0, None) == (
        item.key,
        item.custom_id,
        item.model,
        item.weight,
        item.fault,
    )
    assert {"model": "m", "messages": [], "max_tokens": 9} == orjson.loads(item.body)


@pytest.mark.parametrize(
    ("text", "message", "column"),
    [
        (b'{"a": 1,}', "no JSON: ", 8),
        (b"[]", "must be a JSON object, got list", 1),
        (b'{"a": "\xff"}', "no UTF-8: byte 0xff", 8),
        ('{"ä": "'.encode() + b"\xff" + b'"}', "no UTF-8: byte 0xff", 8),
        (line(custom_id=...), "custom_id: must be a text that is not empty", None),
        (line(custom_id=7), "custom_id: must be a text", None),
        (line(custom_id="x" * 513), "custom_id: at most 512 characters", None),
        (line(method="GET"), "method: must be 'POST', got 'GET'", None),
        (line(url="/v1/models"), f"url: must be the job's '{CHAT}'", None),
        (line(body=[]), "body: must be an object, got []", None),
        (line(body={}), "body.model: must be a text", None),
        (line(body={"model": "m", "stream": True}), "body.stream: must not", None),
        (b'{"a": "' + b"x" * 1000, "longer than 1000 bytes", None),
    ],
)
def test_a_bad_line_is_told(text, message, column):
    """The lines around it are read."""
    before, bad, after = read(line(custom_id="b"), text, line(custom_id="c"))
    assert (None, None) == (before.fault, after.fault)
    assert bad.fault.message.startswith("line 2")
    assert message in bad.fault.message
    assert ("invalid_line", 2, column) == (
        bad.fault.code,
        bad.fault.line,
        bad.fault.column,
    )
    assert (b"", "") == (bad.body, bad.model)


def test_an_id_twice_fails_the_second():
    """Answers could not be told apart."""
    first, second = read(line(), line())
    assert first.fault is None
    assert "custom_id: must be unique in the file, got 'a'" in second.fault.message


def test_blank_lines_and_a_mark_of_order_are_skipped():
    """They count as lines, not as items."""
    source = io.BytesIO(b"\xef\xbb\xbf" + line() + b"\r\n\r\n  \n" + b"{bad")
    good, bad = Requests(SPEC, Lengths(), 1000).read(source)
    assert good.fault is None
    assert (4, "1") == (bad.fault.line, bad.key)


def test_of_a_long_line_nothing_is_kept():
    """Exactly as long as allowed is allowed."""
    source = io.BytesIO(b"x" * 10 + b"\n" + b"y" * 11 + b"\n" + b"z")
    assert [Line(1, b"x" * 10 + b"\n"), Line(2, None), Line(3, b"z")] == list(
        split(source, 10)
    )


@pytest.mark.parametrize(
    ("body", "most"),
    [
        ({}, None),
        ({"max_tokens": 5}, 5),
        ({"max_tokens": 5, "max_completion_tokens": 3}, 3),
        ({"options": {"num_predict": 4}}, 4),
        ({"options": {"num_predict": -1}, "max_tokens": "x"}, None),
    ],
)
def test_the_requests_own_limit(body, most):
    """The least of what is given; nonsense is the node's affair."""
    assert most == most_tokens(body)
