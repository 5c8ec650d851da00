"""Whose fault an answer is: the node's, unless it is known to be the request's.

Pure. The request's words are what Ollama 0.17.4 answered to each kind of bad request
on each route (`tests/e2e/test_failing_ollama.py` asks it again); the node's are
from its sources (0.17 and 0.33) and from public reports.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from router.failover.soundness import unsound
from router.model import Cause
from router.relay.framing import message_in

__all__ = [
    "Blame",
    "Verdict",
    "cause_of_words",
    "judge",
    "judge_words",
    "runner_died",
]


class Blame(StrEnum):
    """Whom an answer speaks of."""

    REQUEST = "request"  # as far as this build of model and Ollama goes
    NODE = "node"
    UNCLEAR = "unclear"  # the node, until a second one of its build says the same


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an answer that is no success comes to; `text` is what the node said."""

    blame: Blame
    cause: Cause
    text: str


# Ollama's 400s, and the 500s that its own checks of a request end in.
_REQUEST_400 = re.compile(
    r"^(unexpected )?EOF$|^json: |^invalid character|^illegal base64|^input\[\d+\]: "
    r"|^time: |^missing request body|is required\b|does not support |must be "
    r"|is too short"
    r"|^invalid (think|reasoning|input|message|image|value|format|json|options?|role)\b"
    r"|^image urls are not |^unknown .* type|not supported",
    re.IGNORECASE,
)
_REQUEST_500 = re.compile(
    r"^invalid (format|json schema|options?)\b|^option \".*\" must be |^template: "
    r"|^unqualified name",
    re.IGNORECASE,
)
# What a node's own limits decide: another may have a longer context.
_LIMITS = re.compile(
    r"exceeds? (the|maximum|available) .*(context|length)", re.IGNORECASE
)
_SIZE_STATUSES = frozenset({413, 414, 431})
_NEVER_TOO_LARGE_BYTES = 65_536

# Said of a load, whatever else the text tells of the reason.
_TERMINATED = re.compile(
    "(llama|model)[- ](runner|server) (process )?(has )?terminated", re.IGNORECASE
)
# The first that is found in the text counts.
_WORDS: Mapping[Cause, re.Pattern[str]] = {
    cause: re.compile("|".join(patterns), re.IGNORECASE)
    for cause, patterns in {
        Cause.OVERLOADED: ("server busy", "maximum pending requests"),
        Cause.OUT_OF_MEMORY: (
            "out of memory",
            "requires more (system|gpu|video)? ?memory",
            "cudamalloc",
            "(unable|failed) to allocate",
            "insufficient memory",
        ),
        Cause.GPU_ERROR: (
            r"\bcuda|cublas|cudnn|\brocm|\bhip(blas)?\b|\bvulkan|\bmetal\b|\bggml",
            r"\bgpus?\b|\bnvml",
            "launch failure",
            "device (lost|removed)",
        ),
        Cause.RUNNER_DIED: (
            "model runner has unexpectedly stopped",
            "error was encountered while running the model",
            "the model runner has stopped",
            r"(dial|read|write) tcp (127\.0\.0\.1|\[::1\])",
            r"(127\.0\.0\.1|localhost|\[::1\]):\d+/\S*: (unexpected )?EOF",
            "no longer running",
            "error reading llm response",
            "do embedding request",
            "runner (crashed|exited)",
        ),
        Cause.LOAD_FAILED: (
            _TERMINATED.pattern,
            "(unable|failed) to (load|start|initiali[sz]e|open|read|create)",
            "error (loading|starting)",
            "timed out waiting for|timeout (waiting|loading)",
            "no such file|permission denied|input/output error|no space left",
            "invalid file magic|digest mismatch|corrupt|blobs?/sha256",
            "(unsupported|unknown) (model|architecture|format)",
        ),
    }.items()
}


def cause_of_words(text: str) -> Cause | None:
    """Name what a node's error text is known to mean; None where it is not."""
    found = (cause for cause, words in _WORDS.items() if words.search(text))
    return next(found, None)


def runner_died(text: str) -> bool:
    """Say whether a runner's process has ended: Ollama starts another by itself."""
    return bool(_WORDS[Cause.RUNNER_DIED].search(text) or _TERMINATED.search(text))


def judge(  # noqa: PLR0911 - one for each kind of answer
    path: str, status: int, content_type: str, body: bytes, sent_bytes: float = math.inf
) -> Verdict | None:
    """Judge a reply that is complete; None where it is an answer to the request.

    sent_bytes: of the request's body
    """
    if status == 200:
        fault = unsound(path, content_type, body)
        if fault is None:
            return None
        if fault.cause is Cause.ERROR:
            return judge_words(status, fault.text)
        blame = Blame.UNCLEAR if fault.unclear else Blame.NODE
        return Verdict(blame, fault.cause, fault.text)
    text = message_in(body)
    if status in _SIZE_STATUSES:
        if status == 413 and sent_bytes < _NEVER_TOO_LARGE_BYTES:
            return Verdict(Blame.NODE, Cause.NOT_OLLAMA, text or "too large")
        return Verdict(Blame.UNCLEAR, Cause.TOO_LARGE, text or "too large")
    if not text:
        blame = Blame.UNCLEAR if status == 400 else Blame.NODE
        return Verdict(blame, _without_words(status), _title(body))
    return judge_words(status, text)


def judge_words(status: int, text: str) -> Verdict:
    """Judge an error that has a text in Ollama's (or OpenAI's) own object."""
    if _LIMITS.search(text) and status in {200, 400, 500}:
        return Verdict(Blame.UNCLEAR, Cause.TOO_LARGE, text)
    if _speaks_of_request(status, text):
        return Verdict(Blame.REQUEST, Cause.ERROR, text)
    if status == 404 and "not found" in text.lower():
        return Verdict(Blame.NODE, Cause.MODEL_MISSING, text)
    known = cause_of_words(text)
    if known is not None:
        return Verdict(Blame.NODE, known, text)
    if status in {200, 400, 422, 499, 500}:
        return Verdict(Blame.UNCLEAR, Cause.ERROR, text)
    return Verdict(Blame.NODE, _without_words(status), text)


def _speaks_of_request(status: int, text: str) -> bool:
    if status == 400:
        return bool(_REQUEST_400.search(text))
    return status in {200, 500} and bool(_REQUEST_500.search(text))


def _without_words(status: int) -> Cause:
    if status in {401, 403, 407}:
        return Cause.DENIED
    if status in {502, 503, 504}:
        return Cause.GATEWAY
    if status == 429:
        return Cause.OVERLOADED
    return Cause.TIMEOUT if status == 408 else Cause.NOT_OLLAMA


_TITLE = re.compile(rb"<title[^>]*>([^<]{1,120})", re.IGNORECASE)


def _title(body: bytes) -> str:
    """Return what a page calls itself, else the beginning of a short text."""
    if found := _TITLE.search(body[:4096]):
        return found[1].decode(errors="replace").strip()
    return "" if body[:1] in b"<{[" else body[:80].decode(errors="replace").strip()
