"""Which web pages may use the router from a browser, and for what.

Ollama's own list (pages of this machine, applications) may ask for inference only;
those that an operator names, for jobs as well. A page of any other site is refused,
also where no preflight would come first: the admin routes trust this machine, and so
would every page that is open on it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from router.errors import ForbiddenError
from router.web.access import LOCAL_PAGES, NAMED_PAGES, Area

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

_LOCAL = tuple(
    f"{scheme}://{name}{port}"
    for name in ("localhost", "127.0.0.1", "0.0.0.0")  # noqa: S104 - as Ollama
    for scheme in ("http", "https")
    for port in ("", ":*")
)
_APPS = ("app://*", "file://*", "tauri://*", "vscode-webview://*", "vscode-file://*")

_EXPOSED = (
    "X-Request-Id, X-InferOps-Node, X-InferOps-Attempts, Retry-After, traceresponse"
)
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

    def refusal(self, origin: str, area: Area) -> ForbiddenError | None:
        """Return what a page hears that may not ask; None where it may."""
        if self.may(origin, area):
            return None
        why = (
            f"pages of {origin!r} may not use this router; an operator lets them in"
            " with the setting web.origins"
        )
        if area not in NAMED_PAGES:
            why = (
                f"pages of {origin!r} may not use the {area} routes, whatever the"
                " setting web.origins says"
            )
        return ForbiddenError(why)


def _fits(origin: str, patterns: Iterable[tuple[str, str, str]]) -> bool:
    origin = origin.lower()
    return any(
        origin.startswith(start) and origin.endswith(end) if star else origin == start
        for start, star, end in patterns
    )


def same_site(origin: str, environ: WSGIEnvironment) -> bool:
    """Say whether the router itself has served the page."""
    name = environ.get("HTTP_HOST", "")
    return origin in {f"http://{name}", f"https://{name}"}


def readable_by(origin: str, start_response: StartResponse) -> StartResponse:
    """Return what lets the page read the answer, and the router's own headers."""

    def start(status: str, headers: list[tuple[str, str]], *more: Any) -> Any:
        headers += [*_allowed(origin), ("Access-Control-Expose-Headers", _EXPOSED)]
        return start_response(status, headers, *more)

    return start


def _allowed(origin: str) -> list[tuple[str, str]]:
    return [("Access-Control-Allow-Origin", origin), ("Vary", "Origin")]


def preflight(
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
