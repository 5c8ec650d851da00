"""What a request may ask of the queue, and how it is told that it may not."""

from __future__ import annotations

import gevent
import pytest

from router.errors import BadRequestError
from router.model import Outcome, Priority
from router.runtime.cancellation import Cancellation
from router.web.inference.headers import TimeLimit, read_terms


def terms(timeout=None, priority=None, first_token=None):
    headers = {
        "HTTP_X_REQUEST_TIMEOUT": timeout,
        "HTTP_X_INFEROPS_PRIORITY": priority,
        "HTTP_X_FIRST_TOKEN_TIMEOUT": first_token,
    }
    return read_terms({k: v for k, v in headers.items() if v is not None}, 60.0)


@pytest.mark.parametrize(
    ("timeout", "priority", "seconds", "wanted"),
    [
        (None, None, 60.0, Priority.INTERACTIVE),
        ("2.5", "batch", 2.5, Priority.BATCH),
        ("30s", None, 30.0, Priority.INTERACTIVE),
        (" 1m0.5s ", None, 60.0, Priority.INTERACTIVE),
        ("1500ms", None, 1.5, Priority.INTERACTIVE),
        ("1e9", " Interactive ", 60.0, Priority.INTERACTIVE),
    ],
    ids=[
        "nothing said",
        "both said",
        "seconds with their unit",
        "several units",
        "part of a second",
        "more than the router allows",
    ],
)
def test_terms(timeout, priority, seconds, wanted):
    """The headers are taken within the router's own limit."""
    found = terms(timeout, priority)
    assert (seconds, wanted) == (found.seconds, found.priority)


@pytest.mark.parametrize(
    ("sent", "seconds"), [(None, float("inf")), ("2", 2.0), ("1500ms", 1.5)]
)
def test_first_token(sent, seconds):
    """Nothing said is no limit."""
    assert seconds == terms(first_token=sent).first_token_seconds


def test_policy_and_session():
    """A policy is asked for by name, in any case; a session's name is cut short."""
    usual = read_terms({}, 60.0)
    assert ("", "") == (usual.picker, usual.session)
    asked = {"HTTP_X_INFEROPS_PICKER": " Session ", "HTTP_X_INFEROPS_SESSION": "a" * 99}
    found = read_terms(asked, 60.0)
    assert ("session", 64) == (found.picker, len(found.session))
    with pytest.raises(
        BadRequestError, match="X-InferOps-Picker: must be one of short"
    ):
        read_terms({"HTTP_X_INFEROPS_PICKER": "luckiest"}, 60.0)


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        (("soon",), "X-Request-Timeout: {}, got 'soon'"),
        (("0",), "X-Request-Timeout: {}, got '0'"),
        (("-1",), "X-Request-Timeout: {}, got '-1'"),
        (("nan",), "X-Request-Timeout: {}, got 'nan'"),
        (("inf",), "X-Request-Timeout: {}, got 'inf'"),
        (("0s",), "X-Request-Timeout: {}, got '0s'"),
        (("-5s",), "X-Request-Timeout: {}, got '-5s'"),
        (("30 sec",), "X-Request-Timeout: {}, got '30 sec'"),
        (("",), "X-Request-Timeout: {}, got ''"),
        ((None, None, "0"), "X-First-Token-Timeout: {}, got '0'"),
        ((None, None, "soon"), "X-First-Token-Timeout: {}, got 'soon'"),
        (
            (None, "urgent"),
            "X-InferOps-Priority: must be interactive or batch, got 'urgent'",
        ),
    ],
    ids=[
        "words",
        "zero",
        "negative",
        "nan",
        "infinite",
        "no time",
        "less than none",
        "unknown unit",
        "empty",
        "no time for the first token",
        "words for the first token",
        "priority",
    ],
)
def test_rejected(headers, message):
    """A malformed header is answered 400 with its name and value."""
    with pytest.raises(BadRequestError) as caught:
        terms(*headers)
    expected = message.format("must be over 0, in seconds (30) or with units (1m30s)")
    assert expected == caught.value.message


def test_time_limit_stops_the_request():
    """The request is stopped when its time is over, with the reason."""
    cancellation = Cancellation()
    limit = TimeLimit(0.01, cancellation)
    with gevent.Timeout(5):
        cancellation.sleep(10)
    assert cancellation.stopped is Outcome.DEADLINE
    limit.close()


def test_closed_limit_stops_nothing():
    """A request that ended in time is not stopped afterwards."""
    cancellation = Cancellation()
    TimeLimit(0.01, cancellation).close()
    gevent.sleep(0.03)
    assert cancellation.stopped is None
