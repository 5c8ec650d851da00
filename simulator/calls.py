"""What a client asks of a node: the bodies of the inference routes, read; pure.

The checks come in Ollama's own order, so that the same wrong body gets the
same answer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from simulator import body
from simulator.body import ApiError
from simulator.dialect import Route
from simulator.model import Model, canonical
from simulator.text import Limits

TEMPLATE = "{{ range .Messages }}{{ .Content }}{{ end }}"
"""Leaves the last assistant message open, so that a text can be continued."""

_FIELD = re.compile(r"\{\{-?\s*\.(System|Prompt)\s*-?\}\}")
_LIBRARY = "registry.ollama.ai/library/"
_GENERATE = {
    "model": "string",
    "prompt": "string",
    "suffix": "string",
    "system": "string",
    "template": "string",
    "context": "ids",
    "stream": "bool",
    "raw": "bool",
    "options": "options",
    "_debug_render_only": "bool",
}
_CHAT = {
    "model": "string",
    "messages": "messages",
    "stream": "bool",
    "options": "options",
    "_debug_render_only": "bool",
}
_CHAT_COMPLETIONS = {
    "model": "string",
    "messages": "openai_messages",
    "stream": "bool",
    "_debug_render_only": "bool",
}
_COMPLETIONS = {
    "model": "string",
    "prompt": "string",
    "suffix": "string",
    "stream": "bool",
    "_debug_render_only": "bool",
}
_READERS: Mapping[Route, tuple[str, Mapping[str, str]]] = {
    Route.GENERATE: ("GenerateRequest", _GENERATE),
    Route.CHAT: ("ChatRequest", _CHAT),
    Route.CHAT_COMPLETIONS: ("ChatCompletionRequest", _CHAT_COMPLETIONS),
    Route.COMPLETIONS: ("CompletionRequest", _COMPLETIONS),
}


@dataclass(frozen=True, slots=True)
class Call:
    """One request for text.

    named:   the model as the client wrote it; answers repeat it
    prompt:  as rendered for the model
    context: ids of the turns before, for generate
    empty:   nothing to answer: only load, or unload where keep_alive is 0
    """

    route: Route
    named: str
    model: Model
    prompt: str
    empty: bool
    stream: bool
    limits: Limits
    keep_alive: float | None = None
    context: Sequence[int] = field(default=())
    raw: bool = False
    render_only: bool = False
    usage: bool = False


def read(route: Route, raw: bytes, models: Mapping[str, Model]) -> Call:
    """Read a body; raises ApiError with Ollama's status and text."""
    name, kinds = _READERS[route]
    value = body.document(raw, name, openai=route.openai)
    body.check_types(value, name, kinds)
    messages = _messages(route, value)
    keep = body.keep_alive(value.get("keep_alive"))
    model = _find(route, value.get("model") or "", models)
    _check_abilities(route, value, model)
    return Call(
        route=route,
        named=value["model"],
        model=model,
        prompt=_render(value, messages),
        empty=not (messages or _text(value, "prompt")),
        stream=_streams(route, value),
        limits=_limits(route, value),
        keep_alive=keep,
        context=tuple(value.get("context") or ()) if route is Route.GENERATE else (),
        raw=value.get("raw") is True,
        render_only=value.get("_debug_render_only") is True,
        usage=_wants_usage(value),
    )


def _find(route: Route, named: str, models: Mapping[str, Model]) -> Model:
    chat = route in (Route.CHAT, Route.CHAT_COMPLETIONS)
    if chat and not named:
        raise ApiError(400, "model is required")
    model = models.get(canonical(named))
    if model is None:
        raise ApiError(404, f"model '{named}' not found")
    return model


def _check_abilities(route: Route, value: Mapping[str, Any], model: Model) -> None:
    named = value["model"]
    if value.get("suffix"):
        raise ApiError(400, f"{_LIBRARY}{model.name} does not support insert")
    if value.get("think") and value["think"] != "none":
        raise ApiError(400, f'"{named}" does not support thinking')
    if value.get("tools"):
        raise ApiError(400, f"{_LIBRARY}{model.name} does not support tools")
    if model.embeds_only:
        chat = route in (Route.CHAT, Route.CHAT_COMPLETIONS)
        verb = "chat" if chat else "generate"
        raise ApiError(400, f'"{named}" does not support {verb}')


def _streams(route: Route, value: Mapping[str, Any]) -> bool:
    """Native calls stream unless told not to; OpenAI's only when told to."""
    given = value.get("stream")
    return given is True if route.openai else given is not False


def _wants_usage(value: Mapping[str, Any]) -> bool:
    options = value.get("stream_options")
    return isinstance(options, dict) and options.get("include_usage") is True


def _limits(route: Route, value: Mapping[str, Any]) -> Limits:
    if not route.openai:
        options = value.get("options") or {}
        count = body.whole_option(options, "num_predict")
        return Limits(count, body.stop_option(options))
    stop = value.get("stop")
    words = [stop] if isinstance(stop, str) else stop
    named = words if isinstance(words, list) else []
    stops = tuple(each for each in named if isinstance(each, str))
    given = value.get("max_tokens")
    if given is not None and (isinstance(given, bool) or not isinstance(given, int)):
        raise body.invalid("json: cannot unmarshal max_tokens into type int")
    return Limits(given, stops)


def _messages(route: Route, value: Mapping[str, Any]) -> list[str]:
    """The messages' texts; Ollama's template here joins them as they are."""
    given = value.get("messages") or []
    if route is Route.CHAT_COMPLETIONS and not given:
        raise body.invalid("[] is too short - 'messages'")
    if route in (Route.GENERATE, Route.COMPLETIONS):
        return []
    return [_content(route, each) for each in given]


def _content(route: Route, message: object) -> str:
    if message is None:  # Go makes an empty one of it
        return ""
    if not isinstance(message, dict):
        what = "string into Go struct field ChatRequest.messages of type api.Message"
        raise body.invalid(f"json: cannot unmarshal {what}")
    content = message.get("content")
    if content is None or isinstance(content, str):
        return content or ""
    if route is Route.CHAT:
        kinds = {"content": "string"}
        body.check_types(message, "ChatRequest.messages", kinds)
    if not isinstance(content, list):
        kind = "float64" if isinstance(content, (int, float)) else "map"
        raise body.invalid(f"invalid message content type: {kind}")
    parts = [each for each in content if isinstance(each, dict)]
    return "".join(str(each.get("text", "")) for each in parts)


def _text(value: Mapping[str, Any], name: str) -> str:
    """Return a text; what a route does not know may be of any type there."""
    text = value.get(name)
    return text if isinstance(text, str) else ""


def _render(value: Mapping[str, Any], messages: list[str]) -> str:
    if messages:
        return "".join(messages)
    prompt, system = _text(value, "prompt"), _text(value, "system")
    if value.get("raw"):
        return prompt
    template = _text(value, "template")
    if not template:
        return system + prompt
    fields = {"System": system, "Prompt": prompt}
    return _FIELD.sub(lambda match: fields[match[1]], template)
