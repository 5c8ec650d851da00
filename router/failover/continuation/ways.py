"""The requests of each way to continue, all in Ollama's native dialect; pure."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from router.failover.continuation.request import (
    CHAT,
    GENERATE,
    OPENAI_COMPLETIONS,
    OriginalRequest,
)
from router.failover.continuation.stops import asked_stops

Body = dict[str, Any]


class Strategy(StrEnum):
    """In the order in which they are tried."""

    MESSAGE = "message"  # the text so far as the last, open assistant message
    TEMPLATE = "template"  # generate, with a template that passes the prompt on
    RAW = "raw"  # generate without a template; its end has no `context`


# What holds for the whole answer, not for the prompt.
_CARRIED = ("keep_alive", "truncate", "shift")
_OPENAI_OPTIONS = ("seed", "frequency_penalty", "presence_penalty")


def native_options(original: OriginalRequest) -> dict[str, Any]:
    """Return `options` as the first segment had them.

    `/v1` sets temperature and top_p to 1 where they are absent, over the
    Modelfile's own: a segment on `/api` has to do the same.
    """
    fields = original.fields
    if not original.openai:
        return dict(fields.get("options") or {})
    options: dict[str, Any] = {
        name: fields[name] for name in _OPENAI_OPTIONS if fields.get(name) is not None
    }
    temperature = fields.get("temperature")
    options["temperature"] = 1.0 if temperature is None else temperature
    top_p = fields.get("top_p")
    unset = top_p is None or (top_p == 0 and original.path == OPENAI_COMPLETIONS)
    options["top_p"] = 1.0 if unset else top_p
    stops = asked_stops(original)
    if stops:
        options["stop"] = stops
    if original.limit is not None:
        options["num_predict"] = original.limit
    return options


def first_request(original: OriginalRequest) -> tuple[str, Body]:
    """Return the original request in a form that can be rendered and counted.

    `/v1/completions` of 0.17.4 takes `_debug_render_only` and tells nothing; it
    is generate under another name.
    """
    if original.path != OPENAI_COMPLETIONS:
        return original.path, dict(original.fields)
    fields = original.fields
    prompt = fields.get("prompt") or ""
    options = native_options(original)
    return GENERATE, {"model": fields["model"], "prompt": prompt, "options": options}


def strategies_of(original: OriginalRequest) -> tuple[Strategy, ...]:
    if original.fields.get("raw"):
        return (Strategy.RAW,)
    if original.chat and _plain_messages(original.fields):
        return (Strategy.MESSAGE, Strategy.TEMPLATE, Strategy.RAW)
    return (Strategy.TEMPLATE, Strategy.RAW)


def _plain_messages(fields: Mapping[str, Any]) -> bool:
    return all(isinstance(each.get("content"), str) for each in fields["messages"])


def segment_request(
    original: OriginalRequest, way: Strategy, prompt: str, text: str
) -> tuple[str, Body]:
    """Return the request that goes on after `text`; `prompt` is the rendered one."""
    fields = original.fields
    body: Body = {
        "model": fields["model"],
        "options": native_options(original),
        "stream": True,
        **{name: fields[name] for name in _CARRIED if name in fields},
    }
    if way is Strategy.MESSAGE:
        if fields.get("think") is not None:
            body["think"] = fields["think"]
        return CHAT, body | {"messages": _with_text(fields["messages"], text)}
    body["prompt"] = prompt + text
    if way is Strategy.RAW:
        return GENERATE, body | {"raw": True}
    # Whatever the prompt says of thinking is rendered already.
    return GENERATE, body | {"template": "{{ .Prompt }}", "system": "", "think": False}


def _with_text(messages: list[Body], text: str) -> list[Body]:
    """Append to what the assistant says last: the client's own start, or none."""
    known = [{k: v for k, v in m.items() if k in _MESSAGE} for m in messages]
    if known and known[-1].get("role") == "assistant":
        last = known[-1] | {"content": known[-1]["content"] + text}
        return [*known[:-1], last]
    return [*known, {"role": "assistant", "content": text}]


_MESSAGE = frozenset({"role", "content", "thinking"})


def rendering(body: Body) -> Body:
    """Ask for the prompt that a request renders to, without any inference.

    A node that does not know the field answers with one token instead.
    """
    return counting(body) | {"_debug_render_only": True}


def counting(body: Body) -> Body:
    """Ask for one token, to hear how many the prompt has."""
    short = {k: v for k, v in body.items() if k != "stream_options"}
    short["stream"] = False
    if "max_tokens" in body or "options" not in body:
        short["max_tokens"] = 1
    short["options"] = {**(body.get("options") or {}), "num_predict": 1}
    return short


def resampled(body: Body, time: int) -> Body:
    """Have a request that is asked again draw again, though a seed be set."""
    seed = body["options"].get("seed")
    if not time or not isinstance(seed, int):
        return body
    return body | {"options": {**body["options"], "seed": seed + time}}


def limited(body: Body, tokens: int | None) -> Body:
    """Limit a segment to what is left; None leaves it as it is."""
    if tokens is None:
        return body
    return body | {"options": {**body["options"], "num_predict": tokens}}
