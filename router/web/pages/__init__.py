"""`/jobs`: pages on which people without a terminal start and watch jobs.

Rendered here with Jinja2; what moves on them asks the same `/v1/jobs` that programs
ask. No build step, nothing from elsewhere: a policy in each answer forbids it.
Changes need a token of their own where somebody is logged in; `router.web.cors` refuses
foreign pages on every path, and no page of ours may be framed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

from flask import Blueprint, Response, render_template, request

from router.errors import RequestError
from router.jobs.input.readers.formats import COMPRESSED, FORMATS
from router.jobs.model import Job
from router.jobs.reducers import REDUCERS, kinds_with
from router.jobs.service import JobService
from router.jobs.store.database import StoreError, as_request_error
from router.web.authentication import principal_of
from router.web.inference.request import request_id
from router.web.jobs.fields import read_page
from router.web.jobs.ownership import add_ownership, own_account
from router.web.jobs.routes import show_job

_SHOWN_JOBS = 30
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self';"
        " img-src data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


@dataclass(frozen=True, slots=True)
class PageContext:
    """What the pages show.

    models:   names that the fleet has, each once
    max_file_bytes: of an upload, to be told before it is tried
    """

    service: JobService
    models: Callable[[], Iterable[str]]
    max_file_bytes: Callable[[], int]


def pages_blueprint(parts: PageContext) -> Blueprint:
    """Build the routes from the table at the end."""
    routes = Blueprint(
        "pages",
        __name__,
        url_prefix="/jobs",
        template_folder="templates",
        static_folder="assets",
        static_url_path="/assets",
    )
    for rule, view in _ROUTES:
        routes.add_url_rule(rule, view.__name__.strip("_"), partial(view, parts))
    routes.register_error_handler(RequestError, request_refused)
    routes.register_error_handler(
        StoreError, lambda error: request_refused(as_request_error(error))
    )
    routes.after_request(guarded)
    add_ownership(routes, lambda: parts.service)
    return routes


def _list(parts: PageContext) -> str:
    page = read_page(request.args, _SHOWN_JOBS, _SHOWN_JOBS)
    found, more = parts.service.listed(
        page, [], openai_only=False, account=own_account()
    )
    jobs = [show_job(*each) for each in found]
    last = jobs[-1]["id"] if more else None
    return render_template("list.html", jobs=jobs, older=last, words=words)


def _new(parts: PageContext) -> str:
    who = principal_of(request.environ)
    return render_template(
        "new.html",
        models=sorted(filter(who.may_use, set(parts.models()))),
        formats=FORMATS,
        titles={key.value: each.title for key, each in FORMATS.items()},
        compressed=COMPRESSED,
        reducers=REDUCERS,
        kinds_with=kinds_with,
        megabytes=parts.max_file_bytes() // 2**20,
    )


def _one(parts: PageContext, job: str) -> str:
    found: Job
    found, active = parts.service.get(job)
    return render_template("job.html", job=show_job(found, active), words=words)


def words(state: str) -> str:
    """Give a job's state in words for people."""
    return _WORDS.get(state, state)


_WORDS = {
    "validating": "reading the file",
    "in_progress": "running",
    "finalizing": "finishing",
    "cancelling": "ending",
}


def refused(status: int, message: str) -> Response:
    page = render_template("refused.html", status=status, message=message)
    return Response(page, status)


def request_refused(error: RequestError) -> Response:
    return refused(error.status, error.message)


def guarded(response: Response) -> Response:
    response.headers.update(_HEADERS)
    if response.mimetype == "text/html":
        response.headers["Cache-Control"] = "no-store"
        response.headers["X-Request-Id"] = request_id(request.environ)
    return response


_ROUTES: tuple[tuple[str, Callable[..., Any]], ...] = (
    ("", _list),
    ("/new", _new),
    ("/<job>", _one),
)
