"""Who sends a request: decided once, in front of every route, and put beside it.

A key is looked up in memory; nothing here touches the disk for a key that is known, or
while no key is needed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from werkzeug.http import parse_cookie

from router.access.credentials import PATH, credentials, split_path
from router.access.keys import UnknownKeyError
from router.access.principal import Principal, anonymous, operator
from router.access.service import KeyService
from router.access.sessions import Sessions
from router.errors import ForbiddenError, RequestError, UnauthorizedError
from router.logs.events import get_logger
from router.relay.protocols import ROUTES
from router.text.api_key import Scope
from router.web.access import READS, Area, area_of, scopes_of
from router.web.bearer import same_secret
from router.web.caller import address, sender
from router.web.inference.request import request_id
from router.web.refusal import refuse

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

COOKIE = "inferops_session"
_LOGIN = "/jobs/login"
PRINCIPAL = "inferops.principal"
_CSRF = "inferops.csrf"
_INFERENCE = frozenset({Scope.INFERENCE})
_HOW = "send one as 'Authorization: Bearer KEY' or 'x-api-key: KEY'"
_NONE = f"this router needs an API key: {_HOW}"

log = get_logger("access")


def principal_of(environ: Mapping[str, Any]) -> Principal:
    """Return who sends a request, as `Authentication` found."""
    found: Principal | None = environ.get(PRINCIPAL)
    return found or anonymous(address(environ))


def csrf_of(environ: Mapping[str, Any]) -> str:
    """Return what a page must send with a change; empty: nobody is logged in."""
    found: str = environ.get(_CSRF, "")
    return found


@dataclass(frozen=True, slots=True)
class Operators:
    """Who needs no key: a token of the operator's, or a person at this machine.

    by_token: returns whose token it is
    is_local: whether only a person at this machine can have sent a request, and there
              is no admin token that it would need
    """

    by_token: Callable[[str], Principal | None] = lambda _: None
    is_local: Callable[[Mapping[str, Any]], bool] = lambda _: False


class Authentication:
    """Looks for a key, a session, or a reason why none is needed.

    now: unix seconds
    """

    def __init__(
        self,
        keys: KeyService,
        sessions: Sessions,
        operators: Operators,
        now: Callable[[], float],
    ) -> None:
        self._keys = keys
        self._sessions = sessions
        self._operators = operators
        self._now = now

    def principal(self, environ: WSGIEnvironment) -> Principal:
        """Return who it is. Raises UnauthorizedError, ForbiddenError."""
        offered = _offered(environ)
        path, method = environ["PATH_INFO"], environ["REQUEST_METHOD"]
        needed = _INFERENCE if path in ROUTES else scopes_of(path, method)
        found = self._found(offered, environ) if offered else self._logged_in(environ)
        if found is None:
            return self._without_key(environ, needed, offered=bool(offered))
        if needed is not None and not found.may(needed):
            scopes = " or ".join(sorted(needed))
            raise ForbiddenError(f"this API key is not for this: it needs {scopes}")
        return found

    def _found(
        self, offered: tuple[str, ...], environ: WSGIEnvironment
    ) -> Principal | None:
        """Return whose key it is; None for what is no key of ours."""
        principal, header = self._keys.ring.principal, partial(_header, environ)
        for each in offered:
            with contextlib.suppress(UnknownKeyError):
                return principal(each, address(environ), self._now(), header)
        if self._keys.required:
            for each in offered:
                if found := self._operators.by_token(each):
                    return found
        return None

    def _logged_in(self, environ: WSGIEnvironment) -> Principal | None:
        """Return whose session the cookie is of. Raises ForbiddenError."""
        cookies = environ.get("HTTP_COOKIE", "")
        if COOKIE not in cookies or environ["PATH_INFO"] == _LOGIN:
            return None
        now = self._now()
        session = self._sessions.find(parse_cookie(cookies).get(COOKIE, ""), now)
        key = self._keys.ring.in_force(session.key, now) if session else None
        if session is None or key is None or not key.lets_in(address(environ)):
            return None
        if environ["REQUEST_METHOD"] not in READS and not same_secret(
            environ.get("HTTP_X_CSRF_TOKEN", ""), session.csrf
        ):
            raise ForbiddenError("a change on a page needs its X-CSRF-Token")
        environ[_CSRF] = session.csrf
        return key.principal()

    def _without_key(
        self, environ: WSGIEnvironment, needed: object, *, offered: bool
    ) -> Principal:
        """Let in who needs no key; anything may be sent as one where none is needed."""
        if not self._keys.required or needed is None:
            return anonymous(address(environ))
        area = area_of(environ["PATH_INFO"])
        if area is Area.WEBHOOK:  # has a token of its own, and asks for it
            return anonymous(address(environ))
        if area is Area.ADMIN and not offered and self._operators.is_local(environ):
            return operator("local")
        raise UnauthorizedError("this API key is not known here" if offered else _NONE)


def _header(environ: Mapping[str, Any], name: str) -> str:
    """Return what a header says, as UTF-8; empty where it is not there."""
    value: str = environ.get(f"HTTP_{name.upper().replace('-', '_')}", "")
    return value.encode("latin-1").decode(errors="replace").strip()


def _offered(environ: WSGIEnvironment) -> tuple[str, ...]:
    """Return the keys that a request offers; one in its path is taken off it."""
    if environ["PATH_INFO"].startswith(PATH):
        key, path = split_path(environ["PATH_INFO"])
        if area_of(path) is Area.INFERENCE:
            environ["PATH_INFO"] = environ["RAW_URI"] = path
            return (key,)
        environ["PATH_INFO"] = environ["RAW_URI"] = "/key"  # and is no route
    return credentials(environ)


def _is_page(environ: WSGIEnvironment) -> bool:
    path = environ["PATH_INFO"]
    return (
        path.startswith(("/jobs", "/boards", "/usage"))
        and environ["REQUEST_METHOD"] in READS
        and "text/html" in environ.get("HTTP_ACCEPT", "")
    )


def refuse_unknown(
    error: RequestError, environ: WSGIEnvironment, start_response: StartResponse
) -> Iterable[bytes]:
    """Answer who was not let in: a page's reader logs in, a program hears why."""
    unauthorized = error.status == UnauthorizedError.status
    if unauthorized and _is_page(environ):
        where = f"{_LOGIN}?next={quote(environ['PATH_INFO'])}"
        start_response("303 See Other", [("Location", where), ("Content-Length", "0")])
        return []
    environ["HTTP_X_REQUEST_ID"] = asked = request_id(environ)
    log.warning(
        "refused",
        method=environ["REQUEST_METHOD"],
        path=environ["PATH_INFO"],
        status=error.status,
        why=error.message,
        **sender(environ),
        request_id=asked,
    )
    challenge = [("WWW-Authenticate", 'Bearer realm="InferOps"')]
    return refuse(error, environ, start_response, challenge if unauthorized else ())
