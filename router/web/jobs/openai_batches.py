"""`/v1/batches` as OpenAI has it; unmodified clients of theirs work here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from flask import Blueprint, Response, g, request

from router.config.settings import JobSettings
from router.jobs.execution.active import ActiveJob, parked_words
from router.jobs.execution.completion import error_file, output_file
from router.jobs.model import (
    OPENAI_ENDPOINTS,
    BadLines,
    Counts,
    Format,
    ItemFault,
    Job,
    JobSpec,
    JobState,
    Preemption,
)
from router.jobs.service import JobService
from router.web.authentication import principal_of
from router.web.jobs.errors import add_error_handlers, answer
from router.web.jobs.fields import FieldError, RequestFields, read_object, read_page
from router.web.jobs.kept_files import read_json_body, show_list
from router.web.jobs.ownership import add_ownership, own_account, own_file

_MOST_JOBS = 100
_LONGEST_WINDOW = "24h"


def batches_blueprint(
    service: JobService, settings: Callable[[], JobSettings]
) -> Blueprint:
    """Build the routes."""
    routes = Blueprint("openai batches", __name__, url_prefix="/v1/batches")
    create = partial(_create, service, settings)
    routes.add_url_rule("", "create", create, methods=["POST"])
    routes.add_url_rule("", "list", partial(_list, service), methods=["GET"])
    routes.add_url_rule("/<job>", "get", partial(_get, service), methods=["GET"])
    cancel = partial(_cancel, service)
    routes.add_url_rule("/<job>/cancel", "cancel", cancel, methods=["POST"])
    add_error_handlers(routes)
    add_ownership(routes, lambda: service)
    return routes


def _create(service: JobService, settings: Callable[[], JobSettings]) -> Response:
    asked = read_object(read_json_body())
    asked.fields.pop("output_expires_after", None)  # outputs live as long as the job
    spec = _spec(asked, settings())
    upload = own_file(service, spec.file)
    if upload.purpose != "batch":
        what = f"must be a file of purpose 'batch', got {upload.purpose!r}"
        raise FieldError("input_file_id", what)
    who = principal_of(request.environ)
    spec = replace(spec, models=who.models)
    job = service.create(spec, who, openai=True, upload=None)
    g.audit = {"job": job.id}
    return answer(show_batch(job, None))


def _spec(asked: RequestFields, settings: JobSettings) -> JobSpec:
    endpoint = asked.required("endpoint")
    if endpoint not in OPENAI_ENDPOINTS:
        known = ", ".join(sorted(OPENAI_ENDPOINTS))
        raise FieldError("endpoint", f"must be one of {known}, got {endpoint[:60]!r}")
    return JobSpec(
        endpoint=endpoint,
        file=asked.required("input_file_id"),
        format=Format.OPENAI,
        **read_terms(asked, settings),
    )


def read_terms(asked: RequestFields, settings: JobSettings) -> dict[str, Any]:
    """Read what every kind of job may say of how it runs; refuses the rest."""
    terms = {
        "bad_lines": asked.choice("bad_lines", BadLines, BadLines.FAIL_LINE),
        "preemption": _preemption(asked, settings),
        "attempts": asked.number("attempts", 1, 20) or settings.attempts,
        "window": asked.window(),
        "nodes": asked.number("nodes", 1, 100_000),
        "seconds": asked.span("completion_window", _LONGEST_WINDOW),
        "metadata": asked.metadata(),
        "name": asked.text("name"),
    }
    asked.nothing_else()
    return terms


def _preemption(asked: RequestFields, settings: JobSettings) -> Preemption:
    """Read `preemption`, or `give_way` as it was called before 0.2."""
    default = Preemption(settings.preemption)
    old = asked.choice("give_way", Preemption, default)
    return asked.choice("preemption", Preemption, old)


def _list(service: JobService) -> Response:
    page = read_page(request.args, 20, _MOST_JOBS)
    found, more = service.listed(page, (), openai_only=True, account=own_account())
    shown = [show_batch(job, active) for job, active in found]
    return answer(show_list(shown, more=more))


def _get(service: JobService, job: str) -> Response:
    return answer(show_batch(*service.get(job)))


def _cancel(service: JobService, job: str) -> Response:
    service.cancel(job)
    return answer(show_batch(*service.get(job)))


def show_batch(job: Job, active: ActiveJob | None) -> dict[str, Any]:
    """Show a job as OpenAI's Batch object."""
    rows = job.counts[0] if job.counts else active.counts[0] if active else Counts()
    over = job.state.over
    unanswered = rows.failed + rows.cancelled
    total = rows.total or job.rows_read
    failed = job.state is JobState.FAILED
    return {
        "id": job.id,
        "object": "batch",
        "endpoint": job.spec.endpoint,
        "model": job.spec.model or None,
        "errors": _errors(job) if failed or job.parked else None,
        "input_file_id": job.spec.file,
        "completion_window": _window(job.spec.seconds),
        "status": job.state.value,
        "output_file_id": output_file(job.id) if over and rows.done else None,
        "error_file_id": error_file(job.id) if over and unanswered else None,
        "created_at": int(job.created),
        "expires_at": int(job.expires),
        **{f"{state}_at": _mark(job, state) for state in _MARKED},
        "request_counts": {
            "total": total,
            "completed": rows.done,
            "failed": rows.failed,
        },
        "usage": _usage(job),
        "metadata": dict(job.spec.metadata) or None,
    }


_MARKED = (
    JobState.IN_PROGRESS,
    JobState.FINALIZING,
    JobState.COMPLETED,
    JobState.FAILED,
    JobState.EXPIRED,
    JobState.CANCELLING,
    JobState.CANCELLED,
)


def _mark(job: Job, state: JobState) -> int | None:
    at = job.marks.get(state.value)
    return None if at is None else int(at)


def _errors(job: Job) -> dict[str, Any]:
    faults = job.faults
    if job.parked:
        faults = (ItemFault("job_parked", parked_words(job)), *faults)
    data = [
        {"code": f.code, "message": f.message, "line": f.line, "param": f.param}
        for f in faults
    ]
    return {"object": "list", "data": data}


def _usage(job: Job) -> dict[str, Any] | None:
    if job.counts is None:
        return None
    prompt, generated = job.tokens
    return {
        "input_tokens": prompt,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": generated,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": prompt + generated,
    }


def _window(seconds: float) -> str:
    """Write a span the way it was asked for, as far as it can be told."""
    for unit, size in (("h", 3600), ("m", 60)):
        if seconds % size == 0:
            return f"{seconds / size:g}{unit}"
    return f"{seconds:g}s"
