"""`/v1/jobs`: jobs over datasets, for people and their programs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import chain
from typing import Any

import orjson
from flask import Blueprint, Response, g, request

from router.config.settings import JobSettings
from router.errors import ConflictError, DatasetError, ForbiddenError
from router.jobs import window
from router.jobs.execution.active import ActiveJob, parked_words
from router.jobs.input.readers import format_of
from router.jobs.input.sources import DatasetFiles, Look, LookError
from router.jobs.model import (
    DATASET_ENDPOINT,
    Counts,
    Format,
    Job,
    JobSpec,
    JobState,
    Preemption,
    StoredFile,
)
from router.jobs.output import (
    EVERYTHING,
    NOT_ANSWERED,
    joined,
    pages,
    rendered,
    result_line,
)
from router.jobs.progress import shown as show_progress
from router.jobs.reducers import Partial
from router.jobs.reducers.concat import SEPARATOR
from router.jobs.service import JobService
from router.jobs.store.results import ResultCursor
from router.model import canonical
from router.web.authentication import principal_of
from router.web.jobs.errors import add_error_handlers, answer
from router.web.jobs.events import Events
from router.web.jobs.fields import (
    FieldError,
    RequestFields,
    query_flag,
    query_number,
    read_object,
    read_page,
)
from router.web.jobs.kept_files import keep, read_json_body, show_list
from router.web.jobs.openai_batches import read_terms
from router.web.jobs.ownership import add_ownership, own_account, own_file
from router.web.jobs.text_stream import JobText, read_mark
from router.web.jobs.turns import Turns
from router.web.jobs.upload import UploadLimits, read_form

_MOST_JOBS = 100
_MOST_RESULTS = 10_000_000
# Each may take a MiB, for as long as its reader or its sender likes.
MOST_ANSWERS, MOST_UPLOADS = 32, 64


@dataclass(frozen=True, slots=True)
class JobContext:
    """What the routes work with."""

    service: JobService
    files: DatasetFiles
    settings: Callable[[], JobSettings]

    def limits(self) -> UploadLimits:
        settings = self.settings()
        return UploadLimits(settings.max_file_bytes, settings.upload_stall_seconds)


def jobs_blueprint(parts: JobContext) -> Blueprint:
    """Build the routes from the table at the end."""
    routes = Blueprint("jobs", __name__, url_prefix="/v1/jobs")
    answers = Turns(MOST_ANSWERS, "lists and downloads")
    uploads = Turns(MOST_UPLOADS, "uploads")
    for method, rule, view in _ROUTES:
        name, counted = view.__name__.strip("_"), view
        if view in _LARGE_ANSWERS:
            counted = answers.for_answer(view)
        if view is _create:
            counted = uploads.for_request(view)
        routes.add_url_rule(rule, name, partial(counted, parts), methods=[method])
    add_error_handlers(routes)
    add_ownership(routes, lambda: parts.service)
    return routes


# Making


def _create(parts: JobContext) -> Response:
    if request.mimetype != "multipart/form-data":
        asked = read_object(read_json_body())
        upload = own_file(parts.service, asked.required("file_id"))
        return _make(parts, asked, upload, fresh=False)
    form = read_form(request.environ, parts.limits(), parts.service.uploads.draft)
    try:
        upload = keep(parts.service, form, "dataset", None)
    finally:
        form.discard()
    try:
        return _make(
            parts, RequestFields(dict(form.fields), form=True), upload, fresh=True
        )
    except BaseException:  # nothing half-made stays, whatever went wrong
        parts.service.uploads.remove(upload.id)
        raise


def _make(
    parts: JobContext, asked: RequestFields, upload: StoredFile, *, fresh: bool
) -> Response:
    spec = _spec(asked, upload, parts.settings())
    parts.service.check_reducer(spec)
    path = parts.service.uploads.path(upload.id)
    _look(parts, Look(path, spec.format, spec.reading, spec.template))
    kept = upload if fresh else None
    who = principal_of(request.environ)
    if not who.may_use(spec.model):
        raise ForbiddenError(f"this API key is not for model {spec.model!r}")
    spec = replace(spec, models=who.models)
    job = parts.service.create(spec, who, openai=False, upload=kept)
    g.audit = {**g.get("audit", {}), "job": job.id}
    return answer(show_job(job, None), 201)


def _spec(asked: RequestFields, upload: StoredFile, settings: JobSettings) -> JobSpec:
    file_format = _format(asked, upload.name)
    model = canonical(asked.required("model").strip())
    template = asked.required("template")
    system = asked.text("system")
    options = asked.object("options")
    reducer = asked.reducer()
    reading = _reading(asked)
    terms = read_terms(asked, settings)
    return JobSpec(
        endpoint=DATASET_ENDPOINT,
        file=upload.id,
        format=file_format,
        model=model,
        template=template,
        system=system,
        options=options,
        reducer=reducer,
        reading=reading,
        **{**terms, "name": terms["name"] or upload.name},
    )


def _format(asked: RequestFields, name: str) -> Format:
    given = asked.choice("format", Format, Format.OPENAI)
    if given is not Format.OPENAI:
        return given
    try:
        return format_of(name)
    except DatasetError as error:
        raise FieldError("format", str(error)) from error


def _reading(asked: RequestFields) -> dict[str, object]:
    """Read what is said of how a file is written."""
    given = {
        "encoding": asked.text("encoding"),
        "delimiter": asked.text("delimiter"),
        "header": asked.flag("header"),
    }
    return {name: value for name, value in given.items() if value not in {"", None}}


def _look(parts: JobContext, asked: Look) -> bytes:
    try:
        return parts.files.look(asked)
    except LookError as error:
        raise FieldError(error.param, str(error)) from error


def _preview(parts: JobContext) -> Response:
    asked = read_object(read_json_body())
    upload = own_file(parts.service, asked.required("file_id"))
    kind = _format(asked, upload.name)
    text, reading = asked.text("template"), _reading(asked)
    asked.nothing_else()
    path = parts.service.uploads.path(upload.id)
    shown = _look(parts, Look(path, kind, reading, text, show=True))
    return Response(shown, content_type="application/json")


# Seeing


def _list(parts: JobContext) -> Response:
    page = read_page(request.args, 20, _MOST_JOBS)
    states = []
    if "state" in request.args:
        asked = RequestFields({"state": request.args["state"]})
        states = [asked.choice("state", JobState, JobState.IN_PROGRESS)]
    found, more = parts.service.listed(
        page, states, openai_only=False, account=own_account()
    )
    return answer(show_list([show_job(*each) for each in found], more=more))


def _get(parts: JobContext, job: str) -> Response:
    return answer(show_job(*parts.service.get(job)))


def _results(parts: JobContext, job: str) -> Response:
    after = query_number(request.args, "after", 0, 0, _MOST_RESULTS)
    limit = query_number(request.args, "limit", 0, 1, _MOST_RESULTS) or None
    states = NOT_ANSWERED if query_flag(request.args, "failed") else EVERYTHING
    parts.service.get(job)  # or there is no such job
    place = ResultCursor(after - 1, 2**62)
    found = pages(parts.service.database, job, states, place, limit=limit)
    lines = (b"".join(result_line(job, each) for each in page) for page in found)
    return Response(lines, content_type="application/x-ndjson")


def _partial(parts: JobContext, job: str) -> Response:
    found, _ = parts.service.get(job)
    partial = parts.service.partial(job) or parts.service.reduced(job)
    return answer(_show_partial(found, partial))


def _output(parts: JobContext, job: str) -> Response:
    found, _ = parts.service.get(job)
    if not found.state.over:
        raise ConflictError(f"job {job!r} is {found.state.value}: not over yet")
    kind = found.spec.reducer.get("kind", "map")
    database = parts.service.database
    if kind == "map":
        lines = rendered(database, job, EVERYTHING, result_line)
        return _file(lines, f"{job}.jsonl", "application/x-ndjson")
    if kind == "concat":
        pieces = joined(database, job, _between(found.spec))
        return _file(pieces, f"{job}.txt", "text/plain; charset=utf-8")
    value = parts.service.reduced(job).value
    if isinstance(value, str):
        text = [value.encode(errors="replace")]
        return _file(text, f"{job}.txt", "text/plain; charset=utf-8")
    return _file([orjson.dumps(value)], f"{job}.json", "application/json")


def _between(spec: JobSpec) -> str:
    separator = spec.reducer.get("separator")
    return separator if isinstance(separator, str) else SEPARATOR


def _file(pieces: Iterable[bytes], name: str, kind: str) -> Response:
    response = Response(pieces, content_type=kind)
    response.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    return response


def _events(parts: JobContext, job: str) -> Response:
    found, _ = parts.service.get(job)  # or there is no such job
    text = _text(parts, found) if query_flag(request.args, "text") else None
    events = Events(parts.service, job, show_job, _show_partial, text)
    first = iter(events)
    response = Response(chain([next(first)], first), content_type="text/event-stream")
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Accel-Buffering"] = "no"
    return response


def _text(parts: JobContext, job: Job) -> JobText:
    if job.spec.reducer.get("kind") != "concat":
        raise FieldError("text", "is for jobs whose reducer is 'concat'")
    at = read_mark(request.headers.get("Last-Event-ID"))
    return JobText(parts.service.database, job.id, _between(job.spec), at)


# Changing


def _pause(parts: JobContext, job: str) -> Response:
    parts.service.pause(job, paused=True)
    return _get(parts, job)


def _resume(parts: JobContext, job: str) -> Response:
    parts.service.pause(job, paused=False)
    return _get(parts, job)


def _cancel(parts: JobContext, job: str) -> Response:
    parts.service.cancel(job)
    return _get(parts, job)


def _retry(parts: JobContext, job: str) -> Response:
    parts.service.retry(job)
    return _get(parts, job)


def _delete(parts: JobContext, job: str) -> Response:
    parts.service.remove(job)
    return answer({"id": job, "object": "job", "deleted": True})


# Showing


_GIVE_WAY = {Preemption.AFTER_ITEM: "item", Preemption.IMMEDIATE: "at_once"}


def show_job(job: Job, active: ActiveJob | None) -> dict[str, Any]:
    """Show a job in the words of `/v1/jobs`."""
    spec = job.spec
    return {
        "id": job.id,
        "object": "job",
        "name": spec.name,
        "state": job.state.value,
        "paused": job.paused,
        "why_idle": _why_idle(job, active),
        "model": spec.model,
        "endpoint": spec.endpoint,
        "template": spec.template,
        "system": spec.system,
        "options": dict(spec.options),
        "reducer": dict(spec.reducer),
        "format": spec.format.value,
        "file_id": spec.file,
        "bad_lines": spec.bad_lines.value,
        "preemption": spec.preemption.value,
        "give_way": _GIVE_WAY[spec.preemption],  # its name before 0.2
        "attempts": spec.attempts,
        "window": window.shown(spec.window) if spec.window else None,
        "zone": spec.window.zone if spec.window else "UTC",
        "nodes": spec.nodes,
        "reading": dict(spec.reading),
        "notes": list(job.notes),
        "parked": job.parked,
        "metadata": dict(spec.metadata),
        "created_at": round(job.created, 3),
        "expires_at": round(job.expires, 3),
        "marks": {state: round(at, 3) for state, at in job.marks.items()},
        "faults": [asdict(fault) for fault in job.faults],
        "progress": show_progress(job, active),
    }


def _why_idle(job: Job, active: ActiveJob | None) -> str | None:
    if job.parked and not job.state.over:
        return parked_words(job)
    if job.state is JobState.VALIDATING:
        return "paused" if job.paused else active.why_idle if active else None
    if job.state is not JobState.IN_PROGRESS:
        return None
    if job.paused:
        return "paused"
    return active.idle() if active else None


def _show_partial(job: Job, partial: Partial) -> dict[str, Any]:
    """Show what a reducer has; `from`: where the shown end of a long text begins."""
    rows = job.counts[0] if job.counts else Counts()
    shown = {
        "value": partial.value,
        "covers": partial.covers,
        "total": job.rows if job.rows is not None else rows.total,
        "final": job.state.over,
    }
    if partial.offset:
        shown["from"] = partial.offset
    return shown


_LARGE_ANSWERS = frozenset({_list, _preview, _results, _partial, _output})

_ROUTES: tuple[tuple[str, str, Callable[..., Response]], ...] = (
    ("POST", "", _create),
    ("GET", "", _list),
    ("POST", "/preview", _preview),
    ("GET", "/<job>", _get),
    ("DELETE", "/<job>", _delete),
    ("POST", "/<job>/pause", _pause),
    ("POST", "/<job>/resume", _resume),
    ("POST", "/<job>/cancel", _cancel),
    ("POST", "/<job>/retry", _retry),
    ("GET", "/<job>/results", _results),
    ("GET", "/<job>/partial", _partial),
    ("GET", "/<job>/output", _output),
    ("GET", "/<job>/events", _events),
)
