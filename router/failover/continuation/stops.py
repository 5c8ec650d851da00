"""Whether a stop string may have left part of a token as a text's last piece; pure.

Ollama holds back what may become a stop string, so that one never begins in a
text that goes on. Where one is met, it says what is left of its tokens, and then
that it is over. A node that dies between the two leaves a text that looks like one
that goes on, and ends within a token: going on from there would pass the stop.
So the last piece is asked for once more, from the token's edge before it: what
follows it this time, text or the end, is right.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from router.failover.continuation.request import OriginalRequest

# As Modelfiles name the tokens that end a turn. Each is one token: met whole, it
# leaves nothing of another. Nearly every model has some, and no request names them.
_CONTROL_TOKEN = re.compile(r"<.+>|\[.+\]")


def may_leave_part_of_a_token(
    original: OriginalRequest, show: Mapping[str, Any]
) -> bool:
    """Say so by the request's stop strings, or else the model's own."""
    asked = asked_stops(original)
    if asked is not None:
        return bool(asked)
    own = _own_stops(str(show.get("parameters", "")))
    return not all(_CONTROL_TOKEN.fullmatch(each) for each in own)


def each_piece_is_a_token(
    text: str, original: OriginalRequest, show: Mapping[str, Any]
) -> bool:
    """Say whether every piece of a text is surely one token.

    Ollama holds a token back for the next one where it ends within a character, or
    may begin a stop string; a piece is several tokens then.
    """
    stops = asked_stops(original)
    if stops is None:
        stops = _own_stops(str(show.get("parameters", "")))
    begins = {str(each)[:1] for each in stops}
    return text.isascii() and begins.isdisjoint(text)


def asked_stops(original: OriginalRequest) -> list[Any] | None:
    """Return the request's stop strings; None where the model's own hold."""
    fields = original.fields
    if original.openai:
        stop = fields.get("stop")
        return ([stop] if isinstance(stop, str) else list(stop)) if stop else None
    stop = (fields.get("options") or {}).get("stop")
    return None if stop is None else list(stop)


def _own_stops(parameters: str) -> list[str]:
    """Read them from what `/api/show` gives: a line each, quoted as Go does."""
    lines = (line.partition(" ") for line in parameters.splitlines())
    return [_unquoted(value.strip()) for name, _, value in lines if name == "stop"]


def _unquoted(value: str) -> str:
    try:
        return str(json.loads(value))
    except ValueError:
        return value
