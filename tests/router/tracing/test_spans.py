"""What is recorded of one request, step by step."""

from __future__ import annotations

import pytest

from router.model import Node, Outcome, Timings
from router.tracing.context import parse
from router.tracing.spans import RequestSpans, end_attempt

CALLER = parse("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
NODE = Node("a", "https://a.example.org/ollama")


@pytest.fixture
def spans():
    made = RequestSpans("/api/chat", 10.0, 0.0, CALLER, "a=1")
    made.describe("chat", "m:latest", streams=True)
    return made


def names(spans):
    return [each.name for each in spans.spans]


def test_one_queue_however_often_it_is_asked(spans):
    """A wait that begins again, because nothing changed, is one wait."""
    spans.wait(11.0, "interactive")
    spans.wait(12.0, "interactive")
    attempt = spans.attempt(NODE, 13.0)
    assert names(spans) == ["POST /api/chat", "queue", "chat m:latest"]
    assert (11.0, 13.0, 13.0) == (*_times(spans.spans[1]), attempt.began)
    assert ("a.example.org", 443) == (
        *(attempt.attributes["server.address"], attempt.attributes["server.port"]),
    )


def _times(span):
    return span.began, span.ended


def test_what_is_open_ends_with_the_request(spans):
    """A wait that came to nothing fails as the request does."""
    spans.wait(11.0, "interactive")
    spans.end(15.0, "503", {"http.response.status_code": 503})
    assert [(15.0, "503")] * 2 == [(each.ended, each.error) for each in spans.spans]


def test_an_attempts_own_fault_is_kept(spans):
    """Its class is more than `refused`, and the request's end does not change it."""
    attempt = spans.attempt(NODE, 13.0)
    end_attempt(attempt, 14.0, Outcome.REFUSED, None, None)
    attempt.fail("not_sent", "error")
    spans.end(20.0, "", {})
    assert (14.0, "not_sent") == (attempt.ended, attempt.error)


def test_two_moves_are_two_continuations(spans):
    """Each lasts to the next break, and what serves it is below it."""
    spans.attempt(NODE, 10.0)
    for cut_at in (11.0, 13.0):
        spans.broke(cut_at, "a", Outcome.EOF)
        spans.wait(cut_at, "continued")
        spans.attempt(NODE, cut_at + 0.5)
        spans.resumed(cut_at + 1, 7)
    spans.end(20.0, "", {})
    first, second = [each for each in spans.spans if each.name == "continuation"]
    assert ((11.0, 13.0), (13.0, 20.0)) == (_times(first), _times(second))
    assert ("eof", "") == (first.error, second.error)
    below = [each.name for each in spans.spans if each.parent_id == first.id]
    assert below == ["queue", "chat m:latest"]
    assert (1.0, 7) == (
        second.attributes["inferops.pause_seconds"],
        second.attributes["inferops.resent_tokens"],
    )


def test_what_the_node_says(spans):
    """Tokens by their GenAI names, and when the first came."""
    attempt = spans.attempt(NODE, 10.0)
    told = Timings(prompt_tokens=3, generated_tokens=5, load_seconds=2.5)
    end_attempt(attempt, 14.0, Outcome.END, 12.0, told)
    expected = {
        "gen_ai.response.time_to_first_chunk": 2.0,
        "gen_ai.usage.input_tokens": 3,
        "gen_ai.usage.output_tokens": 5,
        "inferops.load_seconds": 2.5,
    }
    assert expected.items() <= attempt.attributes.items()
    assert ([("first_token", 12.0)], "") == (attempt.events, attempt.error)


def test_what_goes_on_to_a_node(spans):
    """The caller's state goes on; that of a trace which begins here is nobody's."""
    headers = {"traceparent": "nonsense", "tracestate": "b=2"}
    spans.propagate(headers)
    assert headers == {"traceparent": spans.request.header, "tracestate": "a=1"}
    new = RequestSpans("/", 0.0, 0.0, state="b=2", trace_id="f" * 32)
    new.propagate(headers)
    assert headers == {"traceparent": f"00-{'f' * 32}-{new.request.id}-03"}
