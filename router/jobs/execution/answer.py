"""Makes an item's result of its node's reply; pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from router.jobs.model import (
    CHAT,
    COMPLETIONS,
    EMBEDDINGS,
    RESPONSES,
    Item,
    ItemFault,
    ItemResult,
)
from router.model import Timings
from router.relay.framing import message_in, read_timings_of

# Statuses after which another attempt may succeed.
_PASSING = frozenset({408, 425, 429})
# Parsing more would block the event loop.
_MOST_BYTES = 16 * 1024 * 1024


class UnreadableError(Exception):
    """The reply is not one of this endpoint; it counts as a failure."""


@dataclass(frozen=True, slots=True)
class ItemReply:
    """A node's reply to an item; `ended`: unix seconds."""

    status: int
    body: bytes
    node: str
    request_id: str
    seconds: float
    ended: float


def worth_another_try(status: int) -> bool:
    return status >= 500 or status in _PASSING


def read(item: Item, reply: ItemReply) -> tuple[ItemResult, Timings]:
    """Make the result of a final reply. Raises UnreadableError."""
    if reply.status >= 400:
        message = message_in(reply.body) or f"the node answered {reply.status}"
        fault = ItemFault("request_failed", message)
        return _result(item, reply, "", fault, Timings()), Timings()
    if len(reply.body) > _MOST_BYTES:
        raise UnreadableError(
            f"the reply has {len(reply.body):,} bytes, at most {_MOST_BYTES:,} are kept"
        )
    try:
        fields = orjson.loads(reply.body)
    except orjson.JSONDecodeError as error:
        raise UnreadableError(f"the reply is no JSON: {error}") from error
    if not isinstance(fields, dict):
        raise UnreadableError("the reply is no JSON object")
    timings = read_timings_of(fields)
    return _result(item, reply, _text(item.endpoint, fields), None, timings), timings


def failed(item: Item, fault: ItemFault, ended: float, node: str = "") -> ItemResult:
    """Make the result of an item without an answer."""
    reply = ItemReply(0, b"", node, "", 0.0, ended)
    return _result(item, reply, "", fault, Timings())


def _text(endpoint: str, fields: Mapping[str, Any]) -> str:
    try:
        if endpoint == EMBEDDINGS:
            fields["data"][0]["embedding"]
            return ""
        if endpoint == CHAT:
            return str(fields["choices"][0]["message"].get("content") or "")
        if endpoint == COMPLETIONS:
            return str(fields["choices"][0]["text"])
        if endpoint == RESPONSES:
            return _output_text(fields["output"])
        return str(fields["message"]["content"])
    except (LookupError, TypeError, AttributeError) as error:
        raise UnreadableError(f"not a reply of {endpoint}: no {error}") from error


def _output_text(output: list[dict[str, Any]]) -> str:
    """Join the texts of a response's messages; other parts are left out."""
    return "".join(
        part["text"]
        for each in output
        if each["type"] == "message"
        for part in each["content"]
        if part["type"] == "output_text"
    )


def _result(
    item: Item, reply: ItemReply, text: str, fault: ItemFault | None, timings: Timings
) -> ItemResult:
    return ItemResult(
        key=item.key,
        kind=item.kind,
        index=item.index,
        custom_id=item.custom_id,
        status=reply.status,
        body=reply.body,
        text=text,
        node=reply.node,
        error=fault,
        request_id=reply.request_id,
        prompt_tokens=timings.prompt_tokens,
        generated_tokens=timings.generated_tokens,
        seconds=reply.seconds,
        ended=reply.ended,
    )
