"""Why a reply ended, in Ollama's words, from any dialect's last lines; pure.

Read once, at a reply's end. Values are few, whatever a node writes: they are labels.
"""

from __future__ import annotations

from collections.abc import Mapping

from router.model import DoneReason

__all__ = ["done_reason_in", "done_reason_of"]

# OpenAI's `finish_reason`, Anthropic's `stop_reason`, and the status of a response.
_WORDS = {each.value: each for each in DoneReason} | {
    "": DoneReason.NONE,
    "end_turn": DoneReason.STOP,
    "stop_sequence": DoneReason.STOP,
    "completed": DoneReason.STOP,
    "max_tokens": DoneReason.LENGTH,
    "incomplete": DoneReason.LENGTH,
    "tool_use": DoneReason.TOOL_CALLS,
}
# `/v1/responses` says it by the event's name.
_EVENTS = {
    b"event: response.completed": DoneReason.STOP,
    b"event: response.incomplete": DoneReason.LENGTH,
    b"event: response.failed": DoneReason.OTHER,
}
_KEY = b'_reason":"'
_LONGEST_WORD = 32
# Behind it generate has its context; a search of so much takes a millisecond.
_SEARCHED_BYTES = 1024 * 1024


def done_reason_of(fields: Mapping[str, object]) -> DoneReason:
    """Read it from a whole reply, or from a native stream's last line."""
    choices = fields.get("choices")
    if isinstance(choices, list):
        first = choices[0] if choices else None
        word = first.get("finish_reason") if isinstance(first, dict) else None
    else:
        names = ("done_reason", "stop_reason", "status")
        word = next((word for name in names if (word := fields.get(name))), None)
    return _named(word) if isinstance(word, str) else DoneReason.NONE


def done_reason_in(text: bytes) -> DoneReason:
    """Find it in a stream's last lines, or in a reply that is too long to parse.

    The quotes of what a model wrote are escaped, so they are not taken for the key.
    """
    text = text[-_SEARCHED_BYTES:]
    at = text.rfind(_KEY)
    if at >= 0:
        start = at + len(_KEY)
        word = text[start : start + _LONGEST_WORD].partition(b'"')[0]
        return _named(word.decode(errors="replace"))
    event = text.rstrip(b"\n").rpartition(b"\n\n")[2].partition(b"\n")[0]
    return _EVENTS.get(event, DoneReason.NONE)


def _named(word: str) -> DoneReason:
    return _WORDS.get(word, DoneReason.OTHER)
