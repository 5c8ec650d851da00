"""`/batches`: jobs over datasets, for people and their programs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from itertools import chain
from typing import Any

import orjson
from flask import Blueprint, Response, g, request

from router.config.settings import BatchSettings
from router.errors import ConflictError, DatasetError, TemplateError
from router.jobs import window
from router.jobs.execution.active import Active
from router.jobs.input import readers as datasets
from router.jobs.input.sources import Files
from router.jobs.input.template import Template
from router.jobs.model import (
    DATASET_ENDPOINT,
    Counts,
    Format,
    Job,
    JobSpec,
    JobState,
    Upload,
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
from router.jobs.service import Batches
from router.jobs.store.results import Place
from router.model import canonical
from router.threads import PREVIEWS
from router.web.jobs.errors import add_refusals, answer
from router.web.jobs.events import Events
from router.web.jobs.fields import (
    Asked,
    FieldError,
    query_flag,
    query_number,
    read_object,
    read_page,
)
from router.web.jobs.openai_batches import read_terms
from router.web.jobs.openai_files import keep, read_json_body, show_list
from router.web.jobs.text_stream import Text, read_mark
from router.web.jobs.upload import UploadLimits, read_form

_MOST_JOBS = 100
_MOST_RESULTS = 10_000_000


@dataclass(frozen=True, slots=True)
class JobParts:
    """What the routes work with."""

    batches: Batches
    files: Files
    settings: Callable[[], BatchSettings]

    def limits(self) -> UploadLimits:
        settings = self.settings()
        return UploadLimits(settings.max_file_bytes, settings.upload_stall_seconds)


def jobs_blueprint(parts: JobParts) -> Blueprint:
    """Build the routes from the table at the end."""
    routes = Blueprint("jobs", __name__, url_prefix="/batches")
    for method, rule, view in _ROUTES:
        name = view.__name__.strip("_")
        routes.add_url_rule(rule, name, partial(view, parts), methods=[method])
    add_refusals(routes)
    return routes


# Making


def _create(parts: JobParts) -> Response:
    if request.mimetype != "multipart/form-data":
        asked = read_object(read_json_body())
        upload = parts.batches.file(asked.required("file_id"))
        return _make(parts, asked, upload, fresh=False)
    form = read_form(request.environ, parts.limits(), parts.batches.uploads.draft)
    try:
        upload = keep(parts.batches, form, "dataset", None)
    finally:
        form.discard()
    try:
        return _make(parts, Asked(dict(form.fields), form=True), upload, fresh=True)
    except BaseException:  # nothing half-made stays, whatever went wrong
        parts.batches.uploads.remove(upload.id)
        raise


def _make(parts: JobParts, asked: Asked, upload: Upload, *, fresh: bool) -> Response:
    spec = _spec(asked, upload, parts.settings())
    parts.batches.check_reducer(spec)
    template = _template(spec.template)
    sample = _sample(parts, upload.id, spec.format)
    if sample.rows:
        _check(template, sample.columns)
    kept = upload if fresh else None
    job = parts.batches.create(spec, openai=False, upload=kept)
    g.audit = {**g.get("audit", {}), "job": job.id}
    return answer(show_job(job, None), 201)


def _spec(asked: Asked, upload: Upload, settings: BatchSettings) -> JobSpec:
    file_format = _format(asked, upload.name)
    model = canonical(asked.required("model").strip())
    template = asked.required("template")
    system = asked.text("system")
    options = asked.object("options")
    reducer = asked.reducer()
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
        **{**terms, "name": terms["name"] or upload.name},
    )


def _format(asked: Asked, name: str) -> Format:
    given = asked.choice("format", Format, Format.OPENAI)
    if given is not Format.OPENAI:
        return given
    try:
        return datasets.format_of(name)
    except DatasetError as error:
        raise FieldError("format", str(error)) from error


def _template(text: str) -> Template:
    try:
        return Template.parse(text)
    except TemplateError as error:
        raise FieldError("template", str(error)) from error


def _check(template: Template, columns: Iterable[str]) -> None:
    try:
        template.check(tuple(columns))
    except TemplateError as error:
        raise FieldError("template", str(error)) from error


def _sample(parts: JobParts, file: str, kind: Format) -> datasets.Sample:
    path = parts.batches.uploads.path(file)
    try:
        return PREVIEWS(lambda: parts.files.sample(path, kind))
    except DatasetError as error:
        raise FieldError("file", str(error)) from error
    except OSError as error:
        raise FieldError("file", f"cannot be read: {error.strerror}") from error


def _preview(parts: JobParts) -> Response:
    asked = read_object(read_json_body())
    upload = parts.batches.file(asked.required("file_id"))
    kind = _format(asked, upload.name)
    text = asked.text("template")
    asked.nothing_else()
    sample = _sample(parts, upload.id, kind)
    shown: dict[str, Any] = {
        "format": kind.value,
        "columns": list(sample.columns),
        "rows": [dict(row.fields) for row in sample.rows],
        "faults": [
            {"line": bad.line, "column": bad.column, "message": bad.message}
            for bad in sample.faults
        ],
    }
    if text:
        template = _template(text)
        _check(template, sample.columns)
        shown["prompts"] = list(_prompts(template, sample))
    return answer(shown)


def _prompts(template: Template, sample: datasets.Sample) -> Iterator[str]:
    for row in sample.rows:
        try:
            yield template.render(row.fields)
        except TemplateError as error:
            yield f"(this row fails: {error})"


# Seeing


def _list(parts: JobParts) -> Response:
    page = read_page(request.args, 20, _MOST_JOBS)
    states = []
    if "state" in request.args:
        asked = Asked({"state": request.args["state"]})
        states = [asked.choice("state", JobState, JobState.IN_PROGRESS)]
    found, more = parts.batches.listed(page, states, openai_only=False)
    return answer(show_list([show_job(*each) for each in found], more=more))


def _get(parts: JobParts, job: str) -> Response:
    return answer(show_job(*parts.batches.get(job)))


def _results(parts: JobParts, job: str) -> Response:
    after = query_number(request.args, "after", 0, 0, _MOST_RESULTS)
    limit = query_number(request.args, "limit", 0, 1, _MOST_RESULTS) or None
    states = NOT_ANSWERED if query_flag(request.args, "failed") else EVERYTHING
    parts.batches.get(job)  # or there is no such job
    place = Place(after - 1, 2**62)
    found = pages(parts.batches.database, job, states, place, limit=limit)
    lines = (b"".join(result_line(job, each) for each in page) for page in found)
    return Response(lines, content_type="application/x-ndjson")


def _partial(parts: JobParts, job: str) -> Response:
    found, _ = parts.batches.get(job)
    partial = parts.batches.partial(job)
    if partial is None:
        kept = found.reduced if isinstance(found.reduced, dict) else {}
        partial = Partial(kept.get("value"), kept.get("covers", 0))
    return answer(_show_partial(found, partial))


def _output(parts: JobParts, job: str) -> Response:
    found, _ = parts.batches.get(job)
    if not found.state.over:
        raise ConflictError(f"job {job!r} is {found.state.value}: not over yet")
    kind = found.spec.reducer.get("kind", "map")
    database = parts.batches.database
    if kind == "map":
        lines = rendered(database, job, EVERYTHING, result_line)
        return _file(lines, f"{job}.jsonl", "application/x-ndjson")
    if kind == "concat":
        pieces = joined(database, job, _between(found.spec))
        return _file(pieces, f"{job}.txt", "text/plain; charset=utf-8")
    kept = found.reduced if isinstance(found.reduced, dict) else {}
    value = kept.get("value")
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


def _events(parts: JobParts, job: str) -> Response:
    found, _ = parts.batches.get(job)  # or there is no such job
    text = _text(parts, found) if query_flag(request.args, "text") else None
    events = Events(parts.batches, job, show_job, _show_partial, text)
    first = iter(events)
    response = Response(chain([next(first)], first), content_type="text/event-stream")
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Accel-Buffering"] = "no"
    return response


def _text(parts: JobParts, job: Job) -> Text:
    if job.spec.reducer.get("kind") != "concat":
        raise FieldError("text", "is for jobs whose reducer is 'concat'")
    at = read_mark(request.headers.get("Last-Event-ID"))
    return Text(parts.batches.database, job.id, _between(job.spec), at)


# Changing


def _pause(parts: JobParts, job: str) -> Response:
    parts.batches.pause(job, paused=True)
    return _get(parts, job)


def _resume(parts: JobParts, job: str) -> Response:
    parts.batches.pause(job, paused=False)
    return _get(parts, job)


def _cancel(parts: JobParts, job: str) -> Response:
    parts.batches.cancel(job)
    return _get(parts, job)


def _retry(parts: JobParts, job: str) -> Response:
    parts.batches.retry(job)
    return _get(parts, job)


def _delete(parts: JobParts, job: str) -> Response:
    parts.batches.remove(job)
    return answer({"id": job, "object": "job", "deleted": True})


# Showing


def show_job(job: Job, active: Active | None) -> dict[str, Any]:
    """Show a job in the words of `/batches`."""
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
        "give_way": spec.give_way.value,
        "attempts": spec.attempts,
        "window": window.shown(spec.window) if spec.window else None,
        "zone": spec.window.zone if spec.window else "UTC",
        "nodes": spec.nodes,
        "metadata": dict(spec.metadata),
        "created_at": round(job.created, 3),
        "expires_at": round(job.expires, 3),
        "marks": {state: round(at, 3) for state, at in job.marks.items()},
        "faults": [asdict(fault) for fault in job.faults],
        "progress": show_progress(job, active),
    }


def _why_idle(job: Job, active: Active | None) -> str | None:
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
