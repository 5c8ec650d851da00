"""The routes of a node's port: which call does what, with Ollama's refusals."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from simulator import body, calls, embeddings, listings
from simulator.body import ApiError
from simulator.dialect import (
    JSON,
    OPENAI_JSON,
    Dialect,
    Route,
    Voice,
    dialect,
    dumps,
)
from simulator.exchange import Stream, Whole, send_error
from simulator.http import Reply, Request
from simulator.model import canonical
from simulator.runner import Job
from simulator.text import (
    UNLIMITED_CONTEXTS,
    Answer,
    ids,
    last_number,
    natural_length,
    plan,
    tokens,
)

if TYPE_CHECKING:
    from simulator.node import Node  # which runs the inferences, and imports this

_PLAIN = "text/plain"
_MODELS = "/v1/models"

Handler = Callable[[Request, Reply], None]


class Api:
    """Ollama's API over one node."""

    def __init__(self, node: Node, seed: int) -> None:
        self._node = node
        self._seed = seed
        self._rng = random.Random(f"{seed}/{node.spec.name}")  # noqa: S311  ids
        self._routes = self._table()

    def _table(self) -> Mapping[str, Mapping[str, Handler]]:
        """Path to method to handler."""
        return {
            "/": _reading(self._root),
            "/api/version": _reading(self._version),
            "/api/tags": _reading(self._tags),
            "/api/ps": {"GET": self._ps},
            "/api/show": {"POST": self._show},
            "/api/generate": {"POST": self._text(Route.GENERATE)},
            "/api/chat": {"POST": self._text(Route.CHAT)},
            "/v1/chat/completions": {"POST": self._text(Route.CHAT_COMPLETIONS)},
            "/v1/completions": {"POST": self._text(Route.COMPLETIONS)},
            "/api/embed": {"POST": self._vectors(embeddings.Route.EMBED)},
            "/api/embeddings": {"POST": self._vectors(embeddings.Route.EMBEDDINGS)},
            "/v1/embeddings": {"POST": self._vectors(embeddings.Route.OPENAI)},
            _MODELS: {"GET": self._openai_models},
        }

    def __call__(self, request: Request, reply: Reply) -> None:
        path = request.path
        methods = self._routes.get(path)
        if methods is None and path.startswith(f"{_MODELS}/"):
            methods = {"GET": self._openai_model}
        if methods is None:
            reply.send(404, b"404 page not found", _PLAIN)
            return
        handler = methods.get(request.method)
        if handler is None:
            allow = ("Allow", ", ".join(sorted(methods, reverse=True)))
            reply.send(405, b"405 method not allowed", _PLAIN, (allow,))
            return
        try:
            handler(request, reply)
        except ApiError as error:
            send_error(reply, error, openai=path.startswith("/v1/"))

    # --- what is there ---

    def _root(self, _: Request, reply: Reply) -> None:
        reply.send(200, b"Ollama is running", "text/plain; charset=utf-8")

    def _version(self, _: Request, reply: Reply) -> None:
        reply.send(200, dumps({"version": listings.VERSION}), JSON)

    def _tags(self, _: Request, reply: Reply) -> None:
        reply.send(200, dumps(listings.tags(self._node.models.values())), JSON)

    def _ps(self, _: Request, reply: Reply) -> None:
        node = self._node
        node.catch_up()
        listed = listings.resident(node.engine.resident(), node.unix_ahead)
        reply.send(200, dumps(listed), JSON)

    def _show(self, request: Request, reply: Reply) -> None:
        value = body.document(request.body, "ShowRequest", openai=False)
        body.check_types(value, "ShowRequest", {"model": "string", "name": "string"})
        named = value.get("model") or value.get("name")
        if not named:
            raise ApiError(400, "model is required")
        model = self._node.models.get(canonical(named))
        if model is None:
            raise ApiError(404, f"model '{named}' not found")
        reply.send(200, dumps(listings.show(model)), JSON)

    def _openai_models(self, _: Request, reply: Reply) -> None:
        listing = listings.openai_models(self._node.models.values())
        reply.send(200, dumps(listing) + b"\n", OPENAI_JSON)

    def _openai_model(self, request: Request, reply: Reply) -> None:
        named = request.path.removeprefix(f"{_MODELS}/")
        if canonical(named) not in self._node.models:
            raise ApiError(404, f"model '{named}' not found")
        reply.send(200, dumps(listings.openai_model(named)) + b"\n", OPENAI_JSON)

    # --- inference ---

    def _text(self, route: Route) -> Handler:
        def handle(request: Request, reply: Reply) -> None:
            self._check_injected()
            call = calls.read(route, request.body, self._node.models)
            if call.empty or call.render_only:
                self._only_load(call, reply)
            else:
                self._generate(call, reply)

        return handle

    def _vectors(self, route: embeddings.Route) -> Handler:
        def handle(request: Request, reply: Reply) -> None:
            self._check_injected()
            call = embeddings.read(route, request.body, self._node.models)
            self._embed(call, reply)

        return handle

    def _check_injected(self) -> None:
        error = self._node.injected_error()
        if error is not None:
            raise error

    def _generate(self, call: calls.Call, reply: Reply) -> None:
        prompt_tokens = tokens(call.prompt) + len(call.context)
        answer = plan(
            last_number(call.prompt, call.context) + 1,
            call.limits,
            natural=natural_length(call.prompt, self._seed),
            most=UNLIMITED_CONTEXTS * call.model.context_tokens,
        )
        job = self._job(call, prompt_tokens, answer.tokens)
        spoken = self._dialect(call, answer)
        openai, cut = call.route.openai, self._node.cut()
        if call.stream:
            exchange = Stream(job, reply, answer, spoken, openai=openai, cut=cut)
            self._node.begin(job, exchange)
            return
        whole = Whole(
            job,
            reply,
            lambda stamp: (spoken.whole(job, answer, stamp), spoken.whole_type),
            openai=openai,
            cut=cut,
        )
        self._node.begin(job, whole)

    def _only_load(self, call: calls.Call, reply: Reply) -> None:
        """Load, unload, or show the rendered prompt (which loads as well)."""
        node, spoken = self._node, self._dialect(call, None)
        if call.empty and call.keep_alive == 0:
            node.catch_up()
            node.engine.unload(call.model, node.engine.now)
            stamp = node.clock.stamp()
            reply.send(200, spoken.load("unload", stamp), spoken.whole_type)
            return
        job = self._job(call, 0, 0, load_only=True)
        prompt = call.prompt

        def render(stamp: str) -> tuple[bytes, str]:
            if call.render_only:
                return spoken.rendered(prompt, stamp), spoken.whole_type
            return spoken.load("load", stamp), spoken.whole_type

        node.begin(job, Whole(job, reply, render, openai=call.route.openai))

    def _embed(self, call: embeddings.Call, reply: Reply) -> None:
        openai = call.route is embeddings.Route.OPENAI
        content_type = OPENAI_JSON if openai else JSON
        if not call.texts:
            reply.send(200, embeddings.answer(call, None), content_type)
            return
        count = sum(tokens(text) for text in call.texts)
        job = self._job(call, count, 0)
        whole = Whole(
            job,
            reply,
            lambda _: (embeddings.answer(call, job), content_type),
            openai=openai,
        )
        self._node.begin(job, whole)

    def _job(
        self,
        call: calls.Call | embeddings.Call,
        prompt_tokens: int,
        answer_tokens: int,
        *,
        load_only: bool = False,
    ) -> Job:
        return Job(
            model=call.model,
            prompt_tokens=prompt_tokens,
            tokens=answer_tokens,
            submitted_at=self._node.clock.monotonic(),
            keep_alive=call.keep_alive,
            load_only=load_only,
        )

    def _dialect(self, call: calls.Call, answer: Answer | None) -> Dialect:
        context = None
        if answer and call.route is Route.GENERATE and not call.raw:
            context = (*call.context, *ids(call.prompt), *ids(answer.text))
        voice = Voice(
            route=call.route,
            model=call.named,
            number=self._rng.randrange(1000),
            created=int(self._node.clock.unix()),
            context=context,
            usage=call.usage,
        )
        return dialect(voice)


def _reading(handler: Handler) -> Mapping[str, Handler]:
    return {"GET": handler, "HEAD": handler}
