"""How a prompt begins, as digests of its text at the ends of its messages; pure.

Ollama keeps what a slot read: the next prompt that begins alike need not be read again
as far as that. These digests tell which node has read such a beginning. Nothing of the
text is kept, and no tokenizer runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from operator import itemgetter
from typing import NamedTuple

import orjson

__all__ = ["NO_PREFIXES", "PromptPrefixes", "prefixes_of"]

_MOST_MESSAGES = 1024  # a millisecond's work
_LOOKED_UP = 8  # of the last ends of messages: tools may be called several at a time
_BLOCK = 1024  # letters; further ends in the first text are twice, four times as far


class PromptPrefixes(NamedTuple):
    """Beginnings of one prompt.

    known: digests by which earlier prompts are found, the longest first, and the share
           of this text that a node need not read again which has read so far: it has
           written the answer that follows
    kept:  digests by which later prompts find this one
    """

    known: tuple[tuple[int, float], ...] = ()
    kept: tuple[int, ...] = ()


NO_PREFIXES = PromptPrefixes()

_Text = tuple[str | None, str]  # whose it is


def prefixes_of(fields: Mapping[str, object]) -> PromptPrefixes:
    """Return how the prompt in a request's members begins; nothing where none is."""
    try:
        texts = list(chain(_head(fields), _messages(fields)))
    except (TypeError, orjson.JSONEncodeError):  # messages that are none, or too deep
        return NO_PREFIXES
    if not texts:
        return NO_PREFIXES
    digest, size = 0, 0
    ends: list[tuple[int, int]] = []  # a digest, and letters that need not be read
    for role, text in texts:
        size += len(text)
        if role == "assistant" and ends:
            ends[-1] = ends[-1][0], size
        digest = hash((digest, role, text))
        ends.append((digest, size))
    blocks = list(_blocks(texts[0][1]))
    first, last = ends[0][0], ends[-1][0]
    looked_up = ends[-_LOOKED_UP:]
    if len(ends) > _LOOKED_UP:
        looked_up.append(ends[0])
    looked_up.extend(blocks)
    whole = max(1, size)
    known = [(each, end / whole) for each, end in looked_up]
    known.sort(key=itemgetter(1), reverse=True)
    return PromptPrefixes(
        tuple(known), (last, *(each for each, _ in blocks), *{first} - {last})
    )


def _head(fields: Mapping[str, object]) -> Iterator[_Text]:
    """Yield the texts beside the messages, in the order in which they are read."""
    for name in ("system", "instructions", "prompt"):
        text = fields.get(name)
        if text:
            yield name, text if isinstance(text, str) else _json(text)


def _messages(fields: Mapping[str, object]) -> Iterable[_Text]:
    messages = fields.get("messages") or fields.get("input")
    if not messages:
        return ()
    if isinstance(messages, str):
        return ((None, messages),)
    if not isinstance(messages, list) or len(messages) > _MOST_MESSAGES:
        raise TypeError("these are no messages")
    return map(_message, messages)


def _message(message: object) -> _Text:
    if not isinstance(message, dict):
        raise TypeError("a message is an object")
    role, text = message.get("role"), message.get("content")
    if len(message) == 2 and isinstance(text, str) and isinstance(role, str):
        return role, text
    return "assistant" if role == "assistant" else None, _json(message)


def _json(value: object) -> str:
    return orjson.dumps(value).decode()


def _blocks(text: str) -> Iterator[tuple[int, int]]:
    """Yield ends within a text, for prompts that differ further on."""
    digest, begin, end = 1, 0, _BLOCK
    while end < len(text):
        digest = hash((digest, text[begin:end]))
        yield digest, end
        begin, end = end, 2 * end
