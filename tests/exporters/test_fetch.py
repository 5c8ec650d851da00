"""The bounded GET, over real sockets."""

from __future__ import annotations

import time

import pytest

from exporters.errors import BadAnswerError, NoAnswerError
from exporters.fetch import MAX_BYTES, get_json
from tests.exporters.backends import answering, dripping, silent
from tests.harness.ports import free_port


def soon(seconds: float = 5) -> float:
    return time.monotonic() + seconds


def test_json_is_returned() -> None:
    """A plain reply comes back parsed."""
    with answering({"/x": b'{"a": [1, 2.5, null]}'}) as url:
        assert get_json(f"{url}/x", soon()) == {"a": [1, 2.5, None]}


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        pytest.param(200, b"{", "not JSON: b'{'", id="cut JSON"),
        pytest.param(200, b"<html>", "not JSON: b'<html>'", id="HTML"),
        pytest.param(200, b'{"a": NaN}', "not JSON: b'{\"a\": NaN}'", id="NaN"),
        pytest.param(200, b"\xff\xfe\xfa", "not JSON: b'\\xff\\xfe\\xfa'", id="bytes"),
        pytest.param(
            200, b"[" * 100_000, f"not JSON: b'{'[' * 80}'", id="nested too deeply"
        ),
        pytest.param(
            200,
            b" " * (MAX_BYTES + 1),
            f"more than {MAX_BYTES} bytes",
            id="too long",
        ),
        pytest.param(500, b"{}", "status 500", id="its own error"),
        pytest.param(404, b"", "status 404", id="not an Ollama"),
    ],
)
def test_a_wrong_answer(status, body, message) -> None:
    """Whatever is not a JSON document with status 200 is a bad answer."""
    with answering({"/x": body}, status) as url:
        with pytest.raises(BadAnswerError) as caught:
            get_json(f"{url}/x", soon())
        assert str(caught.value) == f"GET {url}/x: {message}"


def test_a_redirect_is_not_followed() -> None:
    """Else an allowed target could send the probe anywhere."""
    with (
        answering({"/x": b"{}"}) as other,
        answering({"/x": b"{}"}, 302, Location=f"{other}/x") as url,
        pytest.raises(BadAnswerError, match="status 302"),
    ):
        get_json(f"{url}/x", soon())


def test_a_proxy_of_the_environment_is_not_used(monkeypatch) -> None:
    """Nodes are reached directly, whatever the machine's shells use."""
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    with answering({"/x": b"{}"}) as url:
        assert get_json(f"{url}/x", soon()) == {}


def test_refused() -> None:
    """The innermost cause is named."""
    url = f"http://127.0.0.1:{free_port()}/x"
    with pytest.raises(NoAnswerError) as caught:
        get_json(url, soon())
    assert str(caught.value) == f"GET {url}: [Errno 111] Connection refused"


@pytest.mark.parametrize(
    "backend",
    [
        pytest.param(silent(), id="says nothing"),
        pytest.param(
            dripping(b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n"),
            id="body drips in",
        ),
    ],
)
def test_no_full_reply_within_the_deadline(backend) -> None:
    """It is given up at the deadline: the other side would go on for ever."""
    with backend as url:
        began = time.monotonic()
        with pytest.raises(NoAnswerError):
            get_json(f"{url}/x", soon(0.3))
        assert time.monotonic() - began > 0.25


def test_a_deadline_in_the_past() -> None:
    """No call is made at all."""
    with pytest.raises(NoAnswerError, match="not within the deadline"):
        get_json("http://127.0.0.1:1/x", soon(-1))
