"""The inference routes as a bare WSGI callable, mounted in front of Flask.

Flask costs half of a core at a few thousand requests a second; what people
touch every second does without it. Everything else goes to `fallback`.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from router.relay.protocols import ROUTES, Route
from router.web.authentication import principal_of
from router.web.caller import sender
from router.web.inference.context import InferenceContext
from router.web.inference.paths import climbs, passed_on, redirect, tidy
from router.web.inference.request import ClientRequest, request_id
from router.web.inference.response import InferenceResponse

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

__all__ = ["Inference"]


class Inference:
    """Serves `router.relay.protocols.ROUTES` as a WSGI callable.

    own: the starts of paths that the router itself answers
    """

    def __init__(
        self,
        context: InferenceContext,
        *,
        own: frozenset[str],
        fallback: WSGIApplication,
    ) -> None:
        self.context = context
        self._own = own
        self._fallback = fallback

    def __call__(
        self, environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        route = ROUTES.get(path)
        if route is None:
            if leads_to := climbs(path):
                return redirect(leads_to, environ, start_response)
            environ["PATH_INFO"] = path = tidy(path)
            route = ROUTES.get(path) or self._passed_on(path)
        if route is None or environ["REQUEST_METHOD"] != "POST":
            return self._fallback(environ, start_response)
        request = ClientRequest(
            route,
            request_id(environ),
            time.monotonic(),
            principal_of(environ),
            sender=sender(environ),
        )
        context = self.context
        if context.tracing is not None:
            request.spans = context.tracing.begin(
                route.label,
                request.arrived,
                environ.get("HTTP_TRACEPARENT", ""),
                environ.get("HTTP_TRACESTATE", ""),
            )
        context.under_way.enter(request)
        return InferenceResponse(context, request, environ, start_response).begin()

    def _passed_on(self, path: str) -> Route | None:
        """Return a route that only nodes can know, unless the router has its own."""
        start = "/".join(path.split("/", 3)[:3])
        return None if start in self._own else passed_on(path)
