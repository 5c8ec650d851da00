"""Judges a reply as soon as it can be: an answer for the client, or whose fault."""

from __future__ import annotations

from router.errors import (
    EvictedError,
    MaybeSentError,
    RefusedError,
    RouteMissingError,
    RunnerDiedError,
    UnclearError,
)
from router.failover.dead_runner import DIED
from router.failover.repetition import completed, ending, repeats, text_of
from router.failover.soundness import Unsound, unsound_start
from router.failover.verdict import Blame, Verdict, judge, judge_words
from router.model import Cause, Outcome
from router.relay.http1 import Head
from router.relay.protocols import NO_ROUTE, lacks_route
from router.relay.upstream import UpstreamReply

__all__ = ["judged", "route_missing"]


def judged(
    reply: UpstreamReply, node: str, path: str, sent_bytes: int
) -> tuple[bytes, bool]:
    """Return what came, and whether it blames the request of so many bytes.

    Raises AttemptError; BodiesFullError, where the router holds too much already.
    """
    body = reply.take()
    if reply.evicted:
        raise EvictedError(f"{node}: the node is being emptied")
    if reply.runner_died:
        why = f"{node}: {DIED}"
        raise RunnerDiedError(why, Cause.RUNNER_DIED, status=500, body=b"")
    if reply.no_room:
        raise reply.no_room
    gate = reply.gate
    if gate is None:
        return _whole(reply, node, path, body, sent_bytes)
    if gate.failure is not None:
        raise _error(node, judge_words(500, gate.failure), 500, b"")
    if reply.over and reply.outcome() is not Outcome.END:
        body += _lost_end(reply, node, path, body)
    if reply.open_ended:
        return body, False  # nobody knows what its lines are
    if fault := unsound_start(body, sse=path.startswith("/v1/"), over=reply.over):
        raise _unsound(node, fault, reply.head, body)
    return body, False


def _whole(
    reply: UpstreamReply, node: str, path: str, body: bytes, sent_bytes: int
) -> tuple[bytes, bool]:
    head = reply.head
    if head is None or reply.broken is not None:
        why = reply.broken or "the reply ended before its last byte"
        raise MaybeSentError(f"{node}: {why}", Cause.RESET)
    if head.status == 200 and (whole := completed(path, body)):
        return whole, False
    if lacks_route(path, head.status, body):
        raise route_missing(node, path)
    verdict = judge(path, head.status, head.get("content-type"), body, sent_bytes)
    if verdict is None or verdict.blame is Blame.REQUEST:
        return body, verdict is not None
    raise _error(node, verdict, head.status, body, head.headers)


def route_missing(node: str, path: str) -> RouteMissingError:
    """Make the error of a node whose release lacks a route, in its own words."""
    why = f"{node}: its release has no {path}"
    headers = (("content-type", "text/plain"),)
    return RouteMissingError(why, status=404, body=NO_ROUTE, headers=headers)


def _lost_end(reply: UpstreamReply, node: str, path: str, body: bytes) -> bytes:
    """Make the end of a stream that has none; raise where it should have had one."""
    gate, head = reply.gate, reply.head
    if reply.broken is not None or gate is None:
        raise MaybeSentError(f"{node}: {reply.broken}", Cause.RESET)
    if not body:
        raise _unsound(node, Unsound(Cause.EMPTY, "an empty stream"), head, body)
    if not repeats(text_of(body)):
        why = "the stream ended before its last line"
        raise MaybeSentError(f"{node}: {why}", Cause.BROKE_OFF)
    return gate.feed(ending(path, body))


def _unsound(node: str, fault: Unsound, head: Head | None, body: bytes) -> RefusedError:
    verdict = Verdict(Blame.UNCLEAR, fault.cause, fault.text)
    return _error(node, verdict, 200, body, head.headers if head else ())


def _error(
    node: str,
    verdict: Verdict,
    status: int,
    body: bytes,
    headers: tuple[tuple[str, str], ...] = (),
) -> RefusedError:
    kind = RefusedError if verdict.blame is Blame.NODE else UnclearError
    text = f"{node}: {status}: {verdict.text or 'no reason given'}"
    return kind(text, verdict.cause, status=status, body=body, headers=headers)
