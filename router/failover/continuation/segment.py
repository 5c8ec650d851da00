"""A later segment's lines, turned into the client's as they arrive."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import orjson

from router.failover.continuation.proof import Splice
from router.failover.continuation.request import CHAT, GENERATE
from router.failover.continuation.shape import StreamShape, Totals
from router.failover.continuation.transcript import Transcript
from router.model import Timings
from router.relay.framing import Framer, read_timings_of
from router.relay.http1 import ProtocolError


@dataclass(frozen=True, slots=True)
class Elapsed:
    """Time of the whole answer until this segment's first token; seconds."""

    began_at: float
    generate_seconds: float


@dataclass(frozen=True, slots=True)
class Ending:
    """A segment's last line, whose counters are not the whole answer's yet."""

    last: Timings
    reason: str
    created_at: str
    context: list[int] | None
    at: float


class Segment:
    """Translates one segment: its text for `transcript` and client, its counters.

    strayed: it was to say the text's last piece again, and said something else
    ending:  its last line, where the prompt's count is to be asked for first
    """

    def __init__(
        self,
        splice: Splice,
        shape: StreamShape,
        transcript: Transcript,
        elapsed: Elapsed,
        clock: Callable[[], float],
    ) -> None:
        self._splice = splice
        self._shape = shape
        self._transcript = transcript
        self._elapsed = elapsed
        self._clock = clock
        self._again = splice.again
        self.strayed = False
        self.ending: Ending | None = None
        self._path = CHAT if splice.path == CHAT else GENERATE

    def line(self, raw: bytes) -> bytes:
        """Translate one line. Raises ProtocolError: the segment cannot be read."""
        try:
            fields = orjson.loads(raw)
            return self._line(fields)
        except (
            orjson.JSONDecodeError,
            LookupError,
            TypeError,
            AttributeError,
        ) as error:
            raise ProtocolError(f"not a line of Ollama's: {raw[:80]!r}") from error

    def _line(self, fields: dict[str, Any]) -> bytes:
        if fields.get("thinking") or fields.get("message", {}).get("thinking"):
            raise ProtocolError("a continuation began to think")
        text = (
            fields["message"]["content"] if self._path == CHAT else fields["response"]
        )
        if not isinstance(text, str):
            raise TypeError("the text is no string")
        created_at = fields["created_at"]
        known = self._known(text, over=bool(fields.get("done")))
        new = text[known:]
        data = self._shape.piece(new, created_at) if new else b""
        if fields.get("done"):
            data += self._end(fields)
        self._transcript.add_text(text, known)
        return data

    def _end(self, fields: dict[str, Any]) -> bytes:
        reason = fields.get("done_reason") or "stop"
        ending = Ending(
            read_timings_of(fields),
            reason,
            fields["created_at"],
            fields.get("context"),
            self._clock(),
        )
        first = self._splice.first
        if first is None and self._shape.counts:
            self.ending = ending
            return b""
        return self._whole(ending, first or Timings())

    def close(self, prompt_tokens: int | None) -> bytes:
        """Return the end that was held; None where the prompt could not be counted."""
        ending, self.ending = self.ending, None
        if ending is None:
            return b""
        last, read = ending.last, ending.last.prompt_tokens
        if prompt_tokens is None:
            prompt_tokens = max(0, read - self._splice.sent)
        seconds = last.prompt_seconds * prompt_tokens / max(read, 1)
        first = last._replace(prompt_tokens=prompt_tokens, prompt_seconds=seconds)
        return self._whole(ending, first)

    def _whole(self, ending: Ending, first: Timings) -> bytes:
        splice = replace(self._splice, first=first)
        totals = totals_of(splice, ending.last, self._elapsed, ending.at)
        totals = replace(totals, context=ending.context)
        return self._shape.last(totals, ending.reason, ending.created_at)

    def _known(self, text: str, *, over: bool) -> int:
        """Return how many of the first characters the client has already."""
        known = min(len(text), len(self._again))
        rest = self._again[known:]
        if text[:known] != self._again[:known] or (over and rest):
            self.strayed = True
            raise ProtocolError("a continuation did not say the last piece again")
        self._again = rest
        return known


def totals_of(splice: Splice, last: Timings, elapsed: Elapsed, now: float) -> Totals:
    """Restore the counters of the whole answer from what its last segment says.

    The tokens before it are as many as pieces were seen, or more: what the segment read
    beside the prompt.
    """
    first = splice.first or Timings()
    read = last.prompt_tokens - first.prompt_tokens
    return Totals(
        prompt_tokens=first.prompt_tokens,
        generated_tokens=max(splice.sent, read) + last.generated_tokens,
        total_seconds=now - elapsed.began_at,
        load_seconds=first.load_seconds,
        prompt_seconds=first.prompt_seconds,
        generate_seconds=elapsed.generate_seconds + last.generate_seconds,
    )


class SegmentFramer(Framer):
    """The gate of a later segment: what it lets through is the client's already."""

    def __init__(self, before: Framer, segment: Segment) -> None:
        super().__init__(sse=False)
        self._rest = before._rest  # noqa: SLF001 - goes on where it stands
        self.last = before.last
        self.before = before.before
        self.failure = before.failure
        self._segment = segment

    @property
    def between_lines(self) -> bool:
        """Say no: each line is translated, none goes on as it came."""
        return False

    def feed(self, payload: bytes) -> bytes:
        return self.translate(super().feed(payload))

    def translate(self, lines: bytes) -> bytes:
        """Translate whole lines, also those that another gate let through.

        A line that cannot be read ends the segment; what came before it goes out.
        """
        parts = []
        for line in filter(None, lines.split(b"\n")):
            try:
                parts.append(self._segment.line(line))
            except ProtocolError as error:
                self.failure = str(error)
                break
        return b"".join(parts)
