"""OpenAI's lines: what is wrong with each is told by line and column."""

from __future__ import annotations

import gzip

import orjson
import pytest

from router.errors import DatasetError
from router.jobs.input.openai_lines import BadLine, Request, Requests, most_tokens
from router.jobs.input.readers.text import open_utf8
from router.jobs.model import CHAT


def line(**changes):
    fields = {
        "custom_id": "a",
        "method": "POST",
        "url": CHAT,
        "body": {"model": "m", "messages": []},
        **changes,
    }
    return orjson.dumps({k: v for k, v in fields.items() if v is not ...})


@pytest.fixture
def read(tmp_path):
    """Read lines as the sandbox does; each request is found again at its place."""

    def read(*lines, longest=1000):
        path = tmp_path / "f.jsonl"
        path.write_bytes(b"\n".join(lines))
        requests = Requests(CHAT, longest)
        opened = open_utf8(path, 10**6)
        try:
            found = list(requests.read(opened))
            for each in found:
                if isinstance(each, Request) and opened.seekable:
                    assert each.body == requests.at(opened, each.place)
        finally:
            opened.file.close()
        return found

    return read


def test_a_request_is_read(read):
    """Its body as it was, and its own limit."""
    (found,) = read(line(body={"model": "m", "messages": [], "max_tokens": 9}))
    assert (0, 1, "a", "m", 9) == (
        found.index,
        found.line,
        found.custom_id,
        found.model,
        found.most,
    )
    assert {"model": "m", "messages": [], "max_tokens": 9} == orjson.loads(found.body)


@pytest.mark.parametrize(
    ("text", "message", "column", "custom_id"),
    [
        (b'{"a": 1,}', "not JSON: it cannot be read here", 8, ""),
        (b'{"custom_id": "q\\"1", "a": 1,}', "not JSON: it ca", 29, 'q"1'),
        (b"7", "must be a JSON object, got int", 1, ""),
        (b'{"a": "\xff"}', "byte 0xff is not UTF-8", 8, ""),
        ('{"ä": "'.encode() + b"\xff" + b'"}', "byte 0xff is not UTF-8", 8, ""),
        (line(custom_id=...), "custom_id: must be a text that is not empty", None, ""),
        (line(custom_id=7), "custom_id: must be a text", None, ""),
        (line(custom_id="x" * 513), "custom_id: at most 512", None, "x" * 512),
        (line(method="GET"), "method: must be 'POST', got 'GET'", None, "a"),
        (line(url="/v1/models"), f"url: must be the job's '{CHAT}'", None, "a"),
        (line(body=[]), "body: must be an object, got []", None, "a"),
        (line(body={}), "body.model: must be a text", None, "a"),
        (line(body={"model": "m", "stream": True}), "body.stream: must not", None, "a"),
        (b'{"a": "' + b"x" * 1000, "longer than 1000 bytes (jobs.max_l", None, ""),
        (line(custom_id="b"), "custom_id: must be unique in the file", None, "b"),
    ],
)
def test_a_bad_line_is_told(read, text, message, column, custom_id):
    """The lines around it are read, and its error keeps its id."""
    before, bad, after = read(line(custom_id="b"), text, line(custom_id="c"))
    assert isinstance(before, Request)
    assert isinstance(after, Request)
    assert isinstance(bad, BadLine)
    assert message in str(bad.error)
    assert (2, column, custom_id) == (bad.line, bad.error.column, bad.custom_id)


def test_blank_lines_and_a_mark_of_order_are_skipped(read):
    """They count as lines, not as items."""
    good, bad = read(b"\xef\xbb\xbf" + line() + b"\r", b"\r", b"  ", b"{bad")
    assert isinstance(good, Request)
    assert (4, 1) == (bad.line, bad.index)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (line().decode().encode("utf-16"), "the file is in UTF-16; save it as UTF-8"),
        (line().decode().encode("utf-16-le"), "there are NUL bytes; save the file as"),
        (b"[" + line() + b"]", "line 1: the file is a JSON list; write each request"),
        (b"PAR1", "the file is a Parquet file"),
    ],
)
def test_a_file_that_is_wrong_as_a_whole(read, content, message):
    """It is refused, not failed line by line."""
    with pytest.raises(DatasetError) as error:
        read(content)
    assert str(error.value).startswith(message)


def test_a_compressed_file_is_read(read):
    """Its lines cannot be sought again: they have no place."""
    (found,) = read(gzip.compress(line()))
    assert ("a", -1) == (found.custom_id, found.place)


def test_a_line_of_very_many_values_is_refused(read):
    """Parsed, it would take a hundred times its size."""
    text = b'{"custom_id": "q", "a": [' + b"[]," * 2_100_000 + b"[]]}"
    (bad,) = read(text, longest=10**7)
    assert ("more than 2,000,000 values", "q") == (str(bad.error), bad.custom_id)


@pytest.mark.parametrize(
    ("body", "most"),
    [
        ({}, None),
        ({"max_tokens": 5}, 5),
        ({"max_tokens": 5, "max_completion_tokens": 3}, 3),
        ({"max_output_tokens": 6}, 6),
        ({"options": {"num_predict": 4}}, 4),
        ({"options": {"num_predict": -1}, "max_tokens": "x"}, None),
    ],
)
def test_the_requests_own_limit(body, most):
    """The least of what is given; nonsense is the node's affair."""
    assert most == most_tokens(body)
