"""Proves on the new node that a way continues the answer; no I/O here.

Renderings prove it, and cost nothing beside loading the model, which the continuation
needs as well. Counting tokens takes a generation, and the client waits for it. So
nothing is counted before the segment but what it has to know; the prompt's tokens,
which only the last line tells, are asked for at the end.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from router.errors import CannotContinueError
from router.failover.continuation import template
from router.failover.continuation.request import GENERATE, OriginalRequest
from router.failover.continuation.stops import (
    asked_stops,
    each_piece_is_a_token,
    may_leave_part_of_a_token,
)
from router.failover.continuation.ways import (
    Body,
    Strategy,
    counting,
    first_request,
    limited,
    rendering,
    segment_request,
    strategies_of,
)
from router.model import Timings
from router.relay.framing import read_timings_of

Question = tuple[str, Body]
Ask = Callable[[str, Body], Mapping[str, Any]]
AskTogether = Callable[[Sequence[Question]], Sequence[Mapping[str, Any]]]

# Texts that a renderer may put at the start of a prompt, which only a normal
# request strips again (0.33): a raw prompt would then begin with two.
_BOS = (
    "<s>",
    "<bos>",
    "<|begin_of_text|>",
    "<|startoftext|>",
    "<\uff5cbegin\u2581of\u2581sentence\uff5c>",
)
# Any name in brackets may be one, but for those that open a turn.
_NAME = re.compile(r"<[^<>\s]+>|\[[^\[\]\s]+\]")
_TURNS = (
    "<|im_start|>",
    "<|start_header_id|>",
    "<|start_of_role|>",
    "<|START_OF_TURN_TOKEN|>",
    "<|user|>",
    "<|system|>",
    "<|assistant|>",
    "<\uff5cUser\uff5c>",
    "<start_of_turn>",
    "[INST]",
)
_PARSED_FAMILIES = frozenset({"gptoss", "gpt-oss"})


@dataclass(frozen=True, slots=True)
class Splice:
    """What was proven.

    left: tokens that may still come; None: no limit; 0: the answer is whole
    sent: tokens of the answer that the segment begins after, as far as they are counted
    again: what the segment says once more before it says anything new
    first: what the original request's prompt cost on this node; None: not asked yet
    context: generate's context for an answer that ends here; None: untold
    """

    way: Strategy
    path: str
    body: Body
    left: int | None
    sent: int
    first: Timings | None
    context: list[int] | None
    again: str = ""


@dataclass(frozen=True, slots=True)
class AnswerSoFar:
    """The answer so far: whole text, last piece, how many pieces with text.

    ended: whether nothing may follow
    """

    text: str
    last: str
    pieces: int
    ended: bool = False

    def before_last(self) -> AnswerSoFar:
        return AnswerSoFar(
            self.text.removesuffix(self.last), "", self.pieces - 1, self.ended
        )


class _Case:
    """What each way is tried on: the rendered prompt, the text, and how to ask."""

    def __init__(self, original: OriginalRequest, said: AnswerSoFar, ask: Ask) -> None:
        self.original = original
        self.said = said
        self.ask = ask
        self.show: Mapping[str, Any] = {}
        self.prompt = ""
        self.shown = True  # by the node itself
        self.as_message: Question | None = None
        self.message_rendered: str | None = None

    @cached_property
    def first(self) -> Timings:
        """Count the original request's prompt."""
        path, body = first_request(self.original)
        return read_timings_of(self.ask(path, counting(body)))

    def rendered(self, path: str, body: Body) -> str | None:
        question = path, rendering(body)
        if question == self.as_message:
            return self.message_rendered
        return _rendered(self.ask(*question))


def prove(
    original: OriginalRequest,
    said: AnswerSoFar,
    ask: Ask,
    together: AskTogether | None = None,
) -> Splice:
    """Return the first way that holds. Raises CannotContinueError.

    Where a stop string may have ended the text, the segment begins before its last
    piece (`router.failover.continuation.stops`).
    """
    case, again = _opened(original, said, ask, together)
    why = "no way fits"
    for way in strategies_of(original):
        proven = _proven(case, way)
        if not isinstance(proven, str):
            return _splice(case, way, *proven, again)
        why = f"{way}: {proven}"
    raise CannotContinueError(why)


def _opened(
    original: OriginalRequest, said: AnswerSoFar, ask: Ask, together: AskTogether | None
) -> tuple[_Case, str]:
    """Ask for the model and the renderings at one time; return what is said again."""
    path, body = first_request(original)
    show: Question = "/api/show", {"model": original.fields["model"]}
    questions = [show, (path, rendering(body))]
    # Nearly always right; where the model has stop strings, it is asked again.
    guess = said.before_last() if asked_stops(original) and said.last else said
    as_message = None
    if Strategy.MESSAGE in strategies_of(original):
        leg_path, segment = segment_request(original, Strategy.MESSAGE, "", guess.text)
        as_message = leg_path, rendering(segment)
        questions.append(as_message)
    if together is None:
        shown, *renderings = [ask(*each) for each in questions]
    else:
        shown, *renderings = together(questions)
    _check_model(shown)
    again = said.last if may_leave_part_of_a_token(original, shown) else ""
    case = _Case(original, said.before_last() if again else said, ask)
    case.show, case.as_message = shown, as_message
    case.message_rendered = _rendered(renderings[-1])
    prompt = _rendered(renderings[0])
    case.shown = prompt is not None
    if prompt is None:
        prompt = template.render(str(shown.get("template", "")), original)
    if prompt is None:
        raise CannotContinueError("the node cannot show the prompt")
    if not prompt + case.said.text:
        raise CannotContinueError("the prompt is empty")
    case.prompt = prompt
    return case, again


def _splice(case: _Case, way: Strategy, path: str, body: Body, again: str) -> Splice:
    """Limit the segment to what is left; count before it only what it must know."""
    original, said = case.original, case.said
    limit = _limit(original, case.show)
    known = each_piece_is_a_token(said.text, original, case.show)
    left = None if limit is None else max(0, limit - said.pieces)
    if not said.ended and left != 0 and (known or limit is None):
        first = vars(case).get("first")  # where the proof had to count
        segment = limited(body, left)
        return Splice(way, path, segment, left, said.pieces, first, None, again)
    counted = case.ask(path, counting(body))
    seen = read_timings_of(counted).prompt_tokens - case.first.prompt_tokens
    # A cut or merged prompt counts less than what was surely sent.
    sent = max(seen, said.pieces)
    left = None if limit is None else max(0, limit - sent)
    context = None
    if left == 0 and original.path == GENERATE:
        context = _context(case.ask, path, body, counted)
    segment = limited(body, left)
    return Splice(way, path, segment, left, sent, case.first, context, again)


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


def _proven(case: _Case, way: Strategy) -> tuple[str, Body] | str:
    """Return the segment, or why this way does not hold."""
    prompt, text = case.prompt, case.said.text
    if way is not Strategy.MESSAGE and not _surely_same_start(case, way):
        same = _same_start(case, way)
        if same is None:
            return "the prompt counts differently"
        prompt = same
    path, body = segment_request(case.original, way, prompt, text)
    rendered = case.rendered(path, body)
    # Byte for byte: a small context drops the question and still ends well.
    if rendered is not None and rendered != prompt + text:
        return "the prompt is rendered differently"
    if rendered is None and way is not Strategy.RAW:
        return "the node cannot show the prompt"
    return path, body


def _surely_same_start(case: _Case, way: Strategy) -> bool:
    """Say whether the prompt is read alike without counting.

    A template that passes it on is read as every other prompt is, unless it begins
    with a text that only some prompts lose.
    """
    if way is not Strategy.TEMPLATE or not case.shown:
        return False
    start = case.prompt
    return not _NAME.match(start) or start.startswith(_TURNS)


def _same_start(case: _Case, way: Strategy) -> str | None:
    """Return the prompt that has the original's count: without a doubled start."""
    given = case.prompt
    bare = next((given.removeprefix(b) for b in _BOS if given.startswith(b)), given)
    for each in dict.fromkeys((given, bare)):
        path, body = segment_request(case.original, way, each, "")
        if each and _count(case.ask(path, counting(body))) == case.first.prompt_tokens:
            return each
    return None


def _count(reply: Mapping[str, Any]) -> int:
    return read_timings_of(reply).prompt_tokens


def _rendered(reply: Mapping[str, Any]) -> str | None:
    info = reply.get("_debug_info")
    rendered = info.get("rendered_template") if isinstance(info, dict) else None
    return rendered if isinstance(rendered, str) else None


def _limit(original: OriginalRequest, show: Mapping[str, Any]) -> int | None:
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
