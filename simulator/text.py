"""What a simulated model says: it counts, so that its text proves continuity.

After the last number n of its prompt it says n + 1, n + 2, …; without one it
starts at 1. Pure: the same prompt gives the same answer.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

UNLIMITED_CONTEXTS = 10  # Ollama stops an answer at ten context lengths
SHORTEST, LONGEST = 60, 200  # tokens of an answer that nobody limited

_FIRST_NUMBER_ID = 1000
_NUMBER = re.compile(r"\d+")
_PIECE = re.compile(r"\d+|[^\s\d]{1,4}")
_DIGITS = 9


@dataclass(frozen=True, slots=True)
class Limits:
    """What ends an answer.

    tokens: num_predict or max_tokens; zero or less, and None: no limit
    """

    tokens: int | None = None
    stop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer planned whole; its pieces are made when they are asked for.

    first:  the number it starts with
    tokens: how many are generated (`eval_count`)
    shown:  how many of them reach the client whole
    tail:   what a stop string left of the next one
    """

    first: int
    tokens: int
    reason: str
    shown: int
    tail: str = ""

    def piece(self, index: int) -> str:
        return f" {self.first + index}" if index < self.shown else self.tail

    @property
    def pieces(self) -> int:
        return self.shown + bool(self.tail)

    @property
    def text(self) -> str:
        return "".join(self.piece(index) for index in range(self.pieces))


def tokens(prompt: str) -> int:
    """Count a prompt's tokens: a number is one, other text four letters a token."""
    return 1 + len(_PIECE.findall(prompt))


def ids(text: str) -> list[int]:
    """Give each token an id, for generate's `context`; those of numbers tell them."""
    return [_id(piece) for piece in _PIECE.findall(text)]


def _id(piece: str) -> int:
    if piece.isdigit():
        return _FIRST_NUMBER_ID + int(piece[-_DIGITS:])
    return 3 + zlib.crc32(piece.encode()) % (_FIRST_NUMBER_ID - 3)


def last_number(prompt: str, context: Sequence[int] = ()) -> int:
    """Where the prompt, or else the context before it, has counted to."""
    numbers = _NUMBER.findall(prompt)
    if numbers:
        return int(numbers[-1][-_DIGITS:])
    for each in reversed(context):
        if each >= _FIRST_NUMBER_ID:
            return each - _FIRST_NUMBER_ID
    return 0


def plan(first: int, limits: Limits, *, natural: int, most: int) -> Answer:
    """Plan an answer from `first` on.

    natural: how long it is where nobody limits it; most: the context's bound
    """
    limited = limits.tokens is not None and limits.tokens > 0
    wanted = limits.tokens if limited and limits.tokens else natural
    count = min(wanted, most)
    whole = Answer(first, count, "length" if limited else "stop", count)
    return _stopped(whole, limits.stop) if any(limits.stop) else whole


def _stopped(whole: Answer, stop: Sequence[str]) -> Answer:
    text = whole.text
    hits = [(text.find(each), each) for each in stop if each and each in text]
    if not hits:
        return whole
    cut, word = min(hits)
    generated = shown = length = 0
    tail = ""
    for generated in range(1, whole.tokens + 1):
        piece = whole.piece(generated - 1)
        if length + len(piece) <= cut:
            shown = generated
        elif length < cut:
            tail = piece[: cut - length]
        length += len(piece)
        if length >= cut + len(word):
            break
    return Answer(whole.first, generated, "stop", shown, tail)


def natural_length(prompt: str, seed: int) -> int:
    """How long the answer to a prompt is where nobody limits it."""
    mixed = zlib.crc32(prompt.encode(), seed & 0xFFFFFFFF)
    return SHORTEST + mixed % (LONGEST - SHORTEST + 1)
