"""Proves on the new node that a way continues the answer, and counts; no I/O here.

`ask` is how the node is asked: each question needs the model loaded, as the
continuation itself does, and finds the prompt in the cache that the one before
has filled.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from router.errors import CannotContinueError
from router.failover.continuation import template
from router.failover.continuation.request import GENERATE, Original
from router.failover.continuation.stops import may_leave_part_of_a_token
from router.failover.continuation.ways import (
    Body,
    Way,
    counting,
    first_request,
    leg_request,
    limited,
    rendering,
    ways_of,
)
from router.model import Timings
from router.relay.framing import read_timings_of

Ask = Callable[[str, Body], Mapping[str, Any]]

# Texts that a renderer may put at the start of a prompt, which only a normal
# request strips again (0.33): a raw prompt would then begin with two.
_BOS = (
    "<s>",
    "<bos>",
    "<|begin_of_text|>",
    "<|startoftext|>",
    "<\uff5cbegin\u2581of\u2581sentence\uff5c>",
)
_PARSED_FAMILIES = frozenset({"gptoss", "gpt-oss"})


@dataclass(frozen=True, slots=True)
class Seam:
    """What was proven.

    left: tokens that may still come; None: no limit; 0: the answer is whole
    sent: tokens of the answer that the leg begins after
    again: what the leg says once more before it says anything new
    first: what the original request's prompt cost on this node
    context: generate's context for an answer that ends here; None: untold
    """

    way: Way
    path: str
    body: Body
    left: int | None
    sent: int
    first: Timings
    context: list[int] | None
    again: str = ""


@dataclass(frozen=True, slots=True)
class Said:
    """The answer so far: whole text, last piece, how many pieces with text."""

    text: str
    last: str
    pieces: int

    def before_last(self) -> Said:
        return Said(self.text.removesuffix(self.last), "", self.pieces - 1)


@dataclass(frozen=True, slots=True)
class _Case:
    """What each way is tried on; `first` counts the rendered `prompt`."""

    original: Original
    prompt: str
    text: str
    first: Timings
    ask: Ask


def prove(original: Original, said: Said, ask: Ask) -> Seam:
    """Return the first way that holds. Raises CannotContinueError.

    Where a stop string may have ended the text, the leg begins before its last
    piece (`router.failover.continuation.stops`).
    """
    show = ask("/api/show", {"model": original.fields["model"]})
    _check_model(show)
    again = said.last if may_leave_part_of_a_token(original, show) else ""
    if again:
        said = said.before_last()
    text = said.text
    path, body = first_request(original)
    prompt = _rendered(ask(path, rendering(body)))
    if prompt is None:
        prompt = template.render(str(show.get("template", "")), original)
    if prompt is None:
        raise CannotContinueError("the node cannot show the prompt")
    if not prompt + text:
        raise CannotContinueError("the prompt is empty")
    first = read_timings_of(ask(path, counting(body)))
    case = _Case(original, prompt, text, first, ask)
    why = "no way fits"
    for way in ways_of(original):
        proven = _proven(case, way)
        if isinstance(proven, str):
            why = f"{way}: {proven}"
            continue
        leg_path, leg, counted = proven
        seen = read_timings_of(counted).prompt_tokens - first.prompt_tokens
        # A cut or merged prompt counts less than what was surely sent.
        sent = max(seen, said.pieces)
        limit = _limit(original, show)
        left = None if limit is None else max(0, limit - sent)
        context = None
        if left == 0 and original.path == GENERATE:
            context = _context(ask, leg_path, leg, counted)
        leg = limited(leg, left)
        return Seam(way, leg_path, leg, left, sent, first, context, again)
    raise CannotContinueError(why)


def parsed(show: Mapping[str, Any]) -> bool:
    """Say whether Ollama parses what the model writes: no text goes on from that."""
    lines = str(show.get("modelfile", "")).splitlines()
    family = (show.get("details") or {}).get("family")
    return family in _PARSED_FAMILIES or any(
        line.startswith("PARSER ") for line in lines
    )


def _check_model(show: Mapping[str, Any]) -> None:
    if parsed(show):
        raise CannotContinueError("the model has a parser")


def _proven(case: _Case, way: Way) -> tuple[str, Body, Mapping[str, Any]] | str:
    """Return the leg and its count, or why this way does not hold."""
    prompt = case.prompt
    if way is not Way.MESSAGE:
        same = _same_start(case, way)
        if same is None:
            return "the prompt counts differently"
        prompt = same
    path, body = leg_request(case.original, way, prompt, case.text)
    rendered = _rendered(case.ask(path, rendering(body)))
    # Byte for byte: a small context drops the question and still ends well.
    if rendered is not None and rendered != prompt + case.text:
        return "the prompt is rendered differently"
    if rendered is None and way is not Way.RAW:
        return "the node cannot show the prompt"
    return path, body, case.ask(path, counting(body))


def _same_start(case: _Case, way: Way) -> str | None:
    """Return the prompt that has the original's count: without a doubled start."""
    given = case.prompt
    bare = next((given.removeprefix(b) for b in _BOS if given.startswith(b)), given)
    for each in dict.fromkeys((given, bare)):
        path, body = leg_request(case.original, way, each, "")
        if each and _count(case.ask(path, counting(body))) == case.first.prompt_tokens:
            return each
    return None


def _count(reply: Mapping[str, Any]) -> int:
    return read_timings_of(reply).prompt_tokens


def _rendered(reply: Mapping[str, Any]) -> str | None:
    info = reply.get("_debug_info")
    rendered = info.get("rendered_template") if isinstance(info, dict) else None
    return rendered if isinstance(rendered, str) else None


def _limit(original: Original, show: Mapping[str, Any]) -> int | None:
    """Return the answer's limit, the model's own included; 0 and less is none."""
    limit = original.limit
    if limit is None:
        limit = _parameter(str(show.get("parameters", "")), "num_predict")
    return limit if limit is not None and limit > 0 else None


def _parameter(parameters: str, name: str) -> int | None:
    for line in parameters.splitlines():
        key, _, value = line.partition(" ")
        if key == name and value.strip().lstrip("-").isdigit():
            return int(value)
    return None


def _context(
    ask: Ask, path: str, body: Body, counted: Mapping[str, Any]
) -> list[int] | None:
    """Return the ids up to here; None: untold, or the node said more.

    The context is of the text: the token that only counted may have merged with
    what was before it, and an end has none. So it is made a stop string.
    """
    said = counted.get("response")
    if said:
        options = {**body["options"], "stop": [said]}
        counted = ask(path, counting(body | {"options": options}))
    context = counted.get("context")
    if counted.get("response") or not isinstance(context, list):
        return None
    return context
