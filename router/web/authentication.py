"""Who sends a request: decided once, in front of every route, and put beside it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from router.access.principal import Principal, anonymous
from router.web.caller import address

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

__all__ = ["Authentication", "principal_of"]

_PRINCIPAL = "inferops.principal"


def principal_of(environ: Mapping[str, Any]) -> Principal:
    """Return who sends a request, as `Authentication` found."""
    found: Principal | None = environ.get(_PRINCIPAL)
    return found or anonymous(address(environ))


class Authentication:
    """In front of all routes, behind the checks of `Host` and `Origin`."""

    def __init__(self, app: WSGIApplication) -> None:
        self._app = app

    def __call__(
        self, environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        environ[_PRINCIPAL] = anonymous(address(environ))
        return self._app(environ, start_response)
