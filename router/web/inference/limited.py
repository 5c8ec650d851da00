"""What limits do to a request and tell its client: the cap, the headers; pure."""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import cache
from typing import Any

import orjson

from router.access.limits import LimitStatus
from router.relay.protocols import Dialect, Route

__all__ = ["capped", "estimated_tokens", "limit_headers", "prompt_tokens"]

# By what a stream that does not tell its tokens is counted: an event of about this
# size for each token, as Ollama 0.17 writes them, and a prompt as English is.
_EVENT_BYTES = {Dialect.OLLAMA: 130, Dialect.OPENAI: 230, Dialect.ANTHROPIC: 110}
_PROMPT_BYTES = 4
_OPENAI_FIELDS = ("max_tokens", "max_completion_tokens", "max_output_tokens")


def capped(
    route: Route, body: bytes, most: int | None, context: int | None = None
) -> bytes:
    """Return the body with at most so many tokens asked for.

    context: largest window; one that is asked for only, since another window than
             the node's own has the model loaded anew
    """
    if context is not None and b'"num_ctx"' in body:
        body = _narrowed(route, body, context)
    if most is None or route.streams is None or route.form:
        return body
    try:
        asked = orjson.loads(body)
    except orjson.JSONDecodeError:
        return body
    if not isinstance(asked, dict):
        return body
    if route.dialect is Dialect.OLLAMA:
        options = asked.get("options")
        options = dict(options) if isinstance(options, dict) else {}
        options["num_predict"] = _least(options.get("num_predict"), most)
        return orjson.dumps({**asked, "options": options})
    usual = "max_output_tokens" if route.path == "/v1/responses" else "max_tokens"
    given = [name for name in _OPENAI_FIELDS if asked.get(name) is not None] or [usual]
    return orjson.dumps({**asked, **{n: _least(asked.get(n), most) for n in given}})


def _narrowed(route: Route, body: bytes, most: int) -> bytes:
    """Return the body with a window (`options.num_ctx`) of at most so many tokens."""
    if route.dialect is not Dialect.OLLAMA or route.form:
        return body
    try:
        asked = orjson.loads(body)
        options = asked["options"]
        if options["num_ctx"] <= most:
            return body
        return orjson.dumps({**asked, "options": {**options, "num_ctx": most}})
    except (orjson.JSONDecodeError, LookupError, TypeError):
        return body


def prompt_tokens(prompt_bytes: int) -> int:
    """Say about how many tokens a prompt has."""
    return prompt_bytes // _PROMPT_BYTES


def _least(asked: Any, most: int) -> int:
    """Ollama takes a negative number for no limit."""
    known = isinstance(asked, int) and not isinstance(asked, bool) and asked >= 0
    return min(asked, most) if known else most


def estimated_tokens(route: Route, body_bytes: int, reply_bytes: int) -> int:
    """Say about how many tokens a stream had that does not tell."""
    answer = reply_bytes // _EVENT_BYTES[route.dialect]
    return body_bytes // _PROMPT_BYTES + answer


def limit_headers(
    dialect: Dialect, usage: Iterable[LimitStatus], now: float
) -> list[tuple[str, str]]:
    """Write how limits stand, as OpenAI's and Anthropic's clients know it."""
    found: list[tuple[str, str]] = []
    for each in usage:
        if dialect is Dialect.ANTHROPIC:
            at = datetime.fromtimestamp(now + each.reset_seconds, UTC)
            reset = at.isoformat(timespec="seconds").replace("+00:00", "Z")
        else:
            reset = f"{math.ceil(each.reset_seconds)}s"
        values = str(each.most), str(each.left), reset
        found += zip(_names(dialect, each.what), values, strict=True)
    return found


@cache
def _names(dialect: Dialect, what: str) -> tuple[str, ...]:
    name = "x-ratelimit-{0}-{1}"
    if dialect is Dialect.ANTHROPIC:
        name = "anthropic-ratelimit-{1}-{0}"
    return tuple(name.format(each, what) for each in ("limit", "remaining", "reset"))
