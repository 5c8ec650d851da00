"""`/jobs/login`: a key is exchanged for a session, which ends after 12 hours.

The cookie is kept from scripts and from other sites; a change needs the session's CSRF
token besides, which only our own pages know (`router.web.authentication`).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from flask import Blueprint, Response, redirect, render_template, request

from router.access.service import KeyService
from router.access.sessions import SECONDS, Sessions
from router.errors import BadRequestError, RequestError, UnauthorizedError
from router.text.api_key import Scope
from router.web.authentication import COOKIE, csrf_of
from router.web.caller import address
from router.web.pages import guarded

_PAGES = frozenset({Scope.JOBS, Scope.ADMIN_READ, Scope.INFERENCE})
# Where to go afterwards: a page of ours, whatever the link says.
_NEXT = re.compile(r"/(?:jobs|boards|usage)(?:/[\w.-]+)*(?:\?[\w.=&%-]*)?")
_MOST_CHARACTERS = 500
_FIRST, _USAGE = "/jobs", "/usage"


@dataclass(frozen=True, slots=True)
class LoginContext:
    """keys and sessions; clock: unix seconds."""

    keys: KeyService
    sessions: Sessions
    clock: Callable[[], float]


def login_blueprint(parts: LoginContext) -> Blueprint:
    """Build the routes."""
    routes = Blueprint("login", __name__, url_prefix="/jobs")
    routes.add_url_rule("/login", "ask", _ask, methods=["GET"])
    routes.add_url_rule("/login", "log_in", partial(_log_in, parts), methods=["POST"])
    routes.add_url_rule(
        "/logout", "log_out", partial(_log_out, parts), methods=["POST"]
    )
    routes.after_request(_with_origin)  # the last to be named is the first to run
    routes.after_request(guarded)
    routes.app_context_processor(lambda: {"csrf": csrf_of(request.environ)})
    return routes


def _with_origin(response: Response) -> Response:
    """Have the form sent with its origin: without a referrer it would be `null`."""
    response.headers["Referrer-Policy"] = "same-origin"
    return response


def _ask() -> str:
    return render_template("login.html", fault="", next=_next(request.args))


def _log_in(parts: LoginContext) -> Any:
    secret = request.form.get("key", "").strip()[:_MOST_CHARACTERS]
    now = parts.clock()
    try:
        if not secret:
            raise BadRequestError("an API key is needed")
        who = parts.keys.ring.principal(secret, address(request.environ), now)
        if not who.may(_PAGES):
            raise UnauthorizedError(
                "this API key is for none of jobs, admin-read and inference"
            )
    except RequestError as error:
        page = render_template(
            "login.html", fault=error.message, next=_next(request.form)
        )
        return page, error.status
    where = _next(request.form)
    if where == _FIRST and not who.may(frozenset({Scope.JOBS})):
        where = _USAGE  # which each of them may see
    answer = redirect(where, 303)
    answer.set_cookie(
        COOKIE,
        parts.sessions.open(who.id.removeprefix("key:"), now),
        max_age=SECONDS,
        secure=_by_https(),
        httponly=True,
        samesite="Lax",
    )
    return answer


def _log_out(parts: LoginContext) -> Response:
    parts.sessions.close(request.cookies.get(COOKIE, ""))
    answer = Response(status=204)
    answer.delete_cookie(COOKIE, httponly=True, samesite="Lax")
    return answer


def _next(given: Any) -> str:
    wanted = str(given.get("next", ""))
    return wanted if _NEXT.fullmatch(wanted) else _FIRST


def _by_https() -> bool:
    """Say whether the browser came by https; a proxy's word only takes from it."""
    return "https" in {
        request.environ.get("wsgi.url_scheme"),
        request.headers.get("X-Forwarded-Proto", "").lower(),
    }
