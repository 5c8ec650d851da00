"""Which web pages may use the router from a browser, and for what.

Ollama's own list (pages of this machine, applications) may ask for inference only;
those that an operator names, for jobs as well. A page of any other site is refused,
also where no preflight would come first: the admin routes trust this machine, and so
would every page that is open on it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from router.relay.protocols import dialect_of, error_body
from router.web.access import LOCAL_PAGES, NAMED_PAGES, Area, area_of
from router.web.inference.request import request_id

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_LOCAL = tuple(
    f"{scheme}://{name}{port}"
    for name in ("localhost", "127.0.0.1", "0.0.0.0")  # noqa: S104 - as Ollama
    for scheme in ("http", "https")
    for port in ("", ":*")
)
_APPS = ("app://*", "file://*", "tauri://*", "vscode-webview://*", "vscode-file://*")

_TOLD = "X-Request-Id, X-InferOps-Node, X-InferOps-Attempts, Retry-After, traceresponse"
_METHODS = "GET, POST, PUT, PATCH, DELETE, HEAD, OPTIONS"
_PREFLIGHT_SECONDS = 12 * 3600  # as Ollama


class Origins:
    """Origins that are let in; `*` stands for anything, once in each."""

    def __init__(self, more: str = "") -> None:
        named = [each.strip().lower() for each in more.split(",") if each.strip()]
        self._named = [each.partition("*") for each in named]
        self._usual = [each.partition("*") for each in (*_LOCAL, *_APPS)]

    def __contains__(self, origin: str) -> bool:
        return self.may(origin, Area.INFERENCE)

    def may(self, origin: str, area: Area) -> bool:
        """Say whether a page of this origin may ask routes of the area."""
        if _fits(origin, self._named):
            return area in NAMED_PAGES
        return area in LOCAL_PAGES and _fits(origin, self._usual)


def _fits(origin: str, patterns: Iterable[tuple[str, str, str]]) -> bool:
    origin = origin.lower()
    return any(
        origin.startswith(start) and origin.endswith(end) if star else origin == start
        for start, star, end in patterns
    )


class Cors:
    """In front of everything; costs a request without `Origin` one look."""

    def __init__(self, app: WSGIApplication, origins: Origins) -> None:
        self._app = app
        self.origins = origins

    def __call__(
        self, environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        origin = environ.get("HTTP_ORIGIN")
        if not origin or _same_site(origin, environ):
            return self._app(environ, start_response)
        area = area_of(environ["PATH_INFO"])
        if not self.origins.may(origin, area):
            return _refuse(origin, area, environ, start_response)
        if environ["REQUEST_METHOD"] == "OPTIONS":
            return _preflight(origin, environ, start_response)

        def start(status: str, headers: list[tuple[str, str]], *more: Any) -> Any:
            headers += [*_allowed(origin), ("Access-Control-Expose-Headers", _TOLD)]
            return start_response(status, headers, *more)

        return self._app(environ, start)


def _same_site(origin: str, environ: WSGIEnvironment) -> bool:
    name = environ.get("HTTP_HOST", "")
    return origin in {f"http://{name}", f"https://{name}"}


def _allowed(origin: str) -> list[tuple[str, str]]:
    return [("Access-Control-Allow-Origin", origin), ("Vary", "Origin")]


def _preflight(
    origin: str, environ: WSGIEnvironment, start_response: StartResponse
) -> Iterable[bytes]:
    """Allow whatever header is asked for: clients' libraries add new ones."""
    asked = environ.get("HTTP_ACCESS_CONTROL_REQUEST_HEADERS", "")
    headers = [
        *_allowed(origin),
        ("Access-Control-Allow-Methods", _METHODS),
        ("Access-Control-Max-Age", str(_PREFLIGHT_SECONDS)),
    ]
    if asked:
        headers.append(("Access-Control-Allow-Headers", asked))
    start_response("204 No Content", headers)
    return []


def _refuse(
    origin: str, area: Area, environ: WSGIEnvironment, start_response: StartResponse
) -> Iterable[bytes]:
    dialect = dialect_of(environ["PATH_INFO"])
    message = (
        f"pages of {origin!r} may not use this router; an operator lets them in"
        " with the setting web.origins"
    )
    if area not in NAMED_PAGES:
        message = (
            f"pages of {origin!r} may not use the {area} routes, whatever the setting"
            " web.origins says"
        )
    body = error_body(dialect, 403, message, "forbidden")
    headers = [
        ("Content-Type", dialect.json_type),
        ("Content-Length", str(len(body))),
        ("X-Request-Id", request_id(environ)),
    ]
    start_response("403 Forbidden", headers)
    return [body]
