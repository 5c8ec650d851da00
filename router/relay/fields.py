"""What the router reads of a request's body; the body itself goes on as it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import NamedTuple, Protocol, TypeVar

from router.errors import BadRequestError
from router.relay.protocols import Route
from router.text import json_scan
from router.text.duration import parse_duration
from router.text.prompt_prefixes import NO_PREFIXES, PromptPrefixes, prefixes_of

__all__ = ["Ask", "Need", "read_ask"]

T = TypeVar("T")


class RunInThread(Protocol):
    def __call__(self, call: Callable[[], T], /) -> T: ...


def _in_place(call: Callable[[], T], /) -> T:
    return call()


class Need(StrEnum):
    """What a call needs of a node, as tried on a real Ollama with its slot taken."""

    SLOT = "slot"  # the model answers
    LOADED = "loaded"  # the model has to be in memory, and is not asked anything
    DISK = "disk"  # the model's files
    UNLOAD = "unload"  # every node is to let go of the model


class Ask(NamedTuple):
    """What a request asks for, what that needs of a node, and how its prompt begins."""

    model: str
    streams: bool
    need: Need = Need.SLOT
    prefixes: PromptPrefixes = NO_PREFIXES


# Of each member whether a null leaves what was said before it, as in Ollama's types.
_WANTED = {
    "model": True,
    "name": True,  # the older word for it, which /api/show still takes
    "prompt": True,
    "_debug_render_only": True,
    "stream": False,
    "messages": False,
    "input": False,
    "keep_alive": False,
    "options": False,
}


def read_ask(route: Route, body: bytes, offload: RunInThread | None = None) -> Ask:
    """Read what matters here. Raises BadRequestError, worded as Ollama does.

    offload: runs what may take long where it keeps nobody waiting
    """
    if not body:
        raise BadRequestError("missing request body")
    run = offload or _in_place
    if route.form:
        small = len(body) <= _SLICE
        find = _in_place if small else run
        return Ask(find(lambda: _form_model(body)), streams=False)
    fields = _fields(body, run)
    model = fields.get("model") or fields.get("name")
    if model is json_scan.LARGE:
        raise BadRequestError("the model's name is too long")
    if not isinstance(model, str) or not model:
        raise BadRequestError("model is required")
    need, prefixes = _need(route.path, fields), NO_PREFIXES
    if need is Need.SLOT and route.operation in _GENERATES:
        prefixes = prefixes_of(fields)
    return Ask(model, _streams(route, fields), need, prefixes)


def _fields(body: bytes, run: RunInThread) -> Mapping[str, object]:
    try:
        found = json_scan.load(body, _WANTED)
        if found is None:
            found = run(lambda: json_scan.members(body, _WANTED))
    except json_scan.NotAnObjectError as error:
        raise BadRequestError(f"the body must be a JSON object, got {error}") from error
    except json_scan.JsonError as error:
        raise BadRequestError(f"invalid JSON: {error}") from error
    return found


def _streams(route: Route, fields: Mapping[str, object]) -> bool:
    stream = fields.get("stream")
    if stream is None:
        stream = route.streams
    if route.streams is None:
        return route.unknown and stream is True
    if not isinstance(stream, bool):
        raise BadRequestError(f"stream must be true or false, got {stream!r:.60}")
    return stream


# Where a route has what the model is to answer; without it, it is only loaded.
_QUESTION = {
    "/api/generate": "prompt",
    "/api/chat": "messages",
    "/api/embed": "input",
    "/api/embeddings": "prompt",
    "/v1/completions": "prompt",
}
_GENERATES = frozenset({"chat", "text_completion"})
_COUNTING = ("/count_tokens", "/input_tokens", "/tokenize", "/detokenize")
_UNLOADING = frozenset({"/api/generate", "/api/chat"})


def _need(path: str, fields: Mapping[str, object]) -> Need:
    question = _QUESTION.get(path)
    if question is None:
        return _need_of_path(path)
    if fields.get(question) and fields.get("_debug_render_only") is not True:
        return Need.SLOT
    unloading = path in _UNLOADING and not fields.get(question)
    if unloading and _is_zero(fields.get("keep_alive")):
        return Need.UNLOAD
    if fields.get("options"):  # they may be others than it is loaded with
        return Need.SLOT
    return Need.LOADED


def _need_of_path(path: str) -> Need:
    if path == "/api/show":
        return Need.DISK
    return Need.LOADED if path.endswith(_COUNTING) else Need.SLOT


def _is_zero(keep_alive: object) -> bool:
    """Whether it is no time at all, in nanoseconds; a negative one is for ever."""
    if isinstance(keep_alive, str):
        keep_alive = parse_duration(keep_alive)
    if isinstance(keep_alive, bool) or not isinstance(keep_alive, int | float):
        return False
    return 0 <= keep_alive < 1e-9


_MOST_PARTS = 64
_LONGEST_BOUNDARY = 200  # RFC 2046 allows 70 characters
_LONGEST_PART_HEAD = 4096
_LONGEST_FIELD = 1024
_SLICE = 1024 * 1024  # that a search may take without a pause


def _form_model(body: bytes) -> str:
    """Read the field `model` of a multipart form; a file in it is not looked at."""
    end = body.find(b"\r\n", 0, _LONGEST_BOUNDARY)
    if end < 0 or not body.startswith(b"--"):
        raise BadRequestError("the body must be a multipart form")
    boundary = body[:end]
    at = end
    for _ in range(_MOST_PARTS):
        head_end = body.find(b"\r\n\r\n", at, at + _LONGEST_PART_HEAD)
        following = _find(body, boundary, at)
        if head_end >= 0 and b' name="model"' in body[at:head_end]:
            value = body[head_end : min(following, head_end + _LONGEST_FIELD)].strip()
            if value:
                return value.decode(errors="replace")
        if following == len(body):
            break
        at = following + len(boundary)
    raise BadRequestError("model is required")


def _find(body: bytes, needle: bytes, at: int) -> int:
    """Return where the needle is next, or the end, in searches of bounded length."""
    while at < len(body):
        found = body.find(needle, at, at + _SLICE)
        if found >= 0:
            return found
        at += _SLICE - len(needle)
    return len(body)
