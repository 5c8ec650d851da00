"""What each route of the router's own does, takes and gives: one entry for each.

`docs/api.md` and the OpenAPI description are made from this table; a route without an
entry fails a test. Inference routes are described by `router.relay.protocols`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from alerting.payload import Notification
from router.access.file import KeyTerms
from router.holds.record import Change
from router.jobs.model import OPENAI_ENDPOINTS, BadLines, Format, JobState, Preemption
from router.model import HoldKind
from router.usage.report import GROUPS

Schema = Mapping[str, Any]

JSON = "application/json"
_FORM = "multipart/form-data"
_PAGE = "text/html"
_LINES = "application/x-ndjson"
_BYTES = "application/octet-stream"
_TEXT: Schema = {"type": "string"}
_FLAG: Schema = {"type": "boolean"}


@dataclass(frozen=True, slots=True)
class Operation:
    """A route with its method.

    words:    what it does; in backticks what it takes
    query:    parameters by name; `needed` are those that must be there
    body:     its schema by content type
    status:   of success, whose content types are `kinds`; none: no content
    failures: beside those that follow from access, path, parameters and body
    """

    words: str
    query: Mapping[str, Schema] = field(default_factory=dict)
    needed: frozenset[str] = frozenset()
    body: Mapping[str, Schema] = field(default_factory=dict)
    status: int = 200
    kinds: tuple[str, ...] = (JSON,)
    failures: frozenset[int] = frozenset()


def _object(needed: str = "", **properties: Schema) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        "required": needed.split(),
        "additionalProperties": False,
    }


def _whole(least: int, most: int) -> Schema:
    return {"type": "integer", "minimum": least, "maximum": most}


def _one_of(*values: str) -> Schema:
    return {"type": "string", "enum": list(values)}


def _texts(*names: str) -> dict[str, Schema]:
    return dict.fromkeys(names, _TEXT)


_CONFLICT, _TURNS = frozenset({409}), frozenset({429})
# Where OpenAPI has the schemas of parts.
_PARTS_OF_PYDANTIC = "#/components/schemas/{model}"
_NAMED: Schema = {"type": "string", "minLength": 1, "pattern": r"\S"}
_TIME: Schema = {
    "type": "string",
    "description": "ISO 8601, in UTC where it names no zone, or unix seconds",
}
_OF_PAGE = {"limit": _whole(1, 100), "after": _TEXT, "order": _one_of("asc", "desc")}
_RANGE: dict[str, Schema] = {
    "from": {"type": "number"},
    "to": {"type": "number"},
    "points": _whole(2, 1000),
}
_OVER = frozenset({"from", "to"})
_SPAN: Schema = {"type": "string", "pattern": "^[1-9][0-9]{0,1}[mh]$"}
_METADATA: Schema = {
    "type": "object",
    "additionalProperties": {"type": "string", "maxLength": 512},
    "maxProperties": 16,
}
_TERMS: dict[str, Schema] = {
    "name": _TEXT,
    "bad_lines": _one_of(*BadLines),
    "preemption": _one_of(*Preemption),
    "give_way": {**_one_of(*Preemption), "deprecated": True},
    "attempts": _whole(1, 20),
    "window": {"type": "string", "description": "such as `22:00-06:00`"},
    "zone": _TEXT,
    "nodes": _whole(1, 100_000),
    "completion_window": _SPAN,
    "metadata": _METADATA,
}
_READING: dict[str, Schema] = {
    "format": _one_of(*(kind for kind in Format if kind is not Format.OPENAI)),
    "encoding": _TEXT,
    "delimiter": _TEXT,
    "header": _FLAG,
}
_JOB_TERMS: dict[str, Schema] = {
    **_TERMS,
    **_READING,
    "model": _NAMED,
    "template": _NAMED,
    "system": _TEXT,
    "options": {"type": "object"},
    "reducer": {
        "oneOf": [_TEXT, {"type": "object"}],
        "description": "a kind, or an object with its `kind` and terms",
    },
    "threshold": _whole(2, 1024),
}
_FILE: Schema = {"type": "string", "format": "binary"}
_JOB = {
    JSON: _object("file_id model template", file_id=_NAMED, **_JOB_TERMS),
    _FORM: {
        "type": "object",
        "properties": {**_JOB_TERMS, "file": _FILE},
        "required": ["file", "model", "template"],
    },
}
_BATCH = _object(
    "input_file_id endpoint",
    input_file_id=_NAMED,
    endpoint=_one_of(*sorted(OPENAI_ENDPOINTS)),
    output_expires_after={"type": "object"},
    **_TERMS,
)
_PURPOSE = _one_of("batch", "dataset")
_UPLOAD = _object(
    "filename purpose bytes",
    filename=_NAMED,
    purpose=_PURPOSE,
    bytes=_whole(1, 2**50),
    mime_type=_TEXT,
    expires_after=_object(
        "seconds", anchor=_one_of("created_at"), seconds=_whole(3600, 2_592_000)
    ),
)
_UPLOADED: Schema = {
    "type": "object",
    "properties": {"file": _FILE, "purpose": _PURPOSE},
    "required": ["file", "purpose"],
}
_PARTS = _object(
    "part_ids",
    part_ids={"type": "array", "items": _TEXT, "minItems": 1},
    md5=_TEXT,
)
_SHORT: Schema = {"type": "string", "maxLength": 500}
_BY: dict[str, Schema] = {"by": _SHORT, "reason": _SHORT}
_ALERT: Schema = {"type": "string", "minLength": 1, "maxLength": 500}
_CORDON: dict[str, Schema] = {
    **_BY,
    "minutes": _whole(1, 366 * 24 * 60),
    "silence": _FLAG,
}
_LABELS: Schema = {"type": "object", "additionalProperties": _TEXT}
_NODE = _object("name address", name=_NAMED, address=_NAMED, labels=_LABELS)
_AUDIT = {
    **_texts("actor", "client", "action", "target"),
    "since": _TIME,
    "before": _TIME,
    "after": {"type": "integer", "minimum": 0, "maximum": 10**15 - 1},
    "limit": _whole(1, 1000),
}
_USAGE = {
    "by": {
        "type": "string",
        "pattern": f"^({'|'.join(GROUPS)})$",
        "description": f"some of {', '.join(GROUPS)}, with a comma between",
    },
    "month": {"type": "string", "pattern": "^[0-9]{4}-(0[1-9]|1[0-2])$"},
    "since": _TIME,
    "before": _TIME,
    **_texts("principal", "model", "node"),
    "format": _one_of("json", "csv"),
}
_HISTORY = {
    **_texts("node", "alert"),
    "kind": _one_of(*HoldKind),
    "change": _one_of(*Change),
    "since": _TIME,
    "before": _TIME,
    "limit": _whole(1, 1000),
}


def _job_change(words: str) -> Operation:
    return Operation(words, failures=_CONFLICT)


def _change(words: str, needed: str, **takes: Schema) -> Operation:
    """Describe a change under `/admin`: JSON, which foreign pages cannot send."""
    body = {JSON: _object(needed, **takes)}
    return Operation(words, body=body, failures=_CONFLICT)


def _page(words: str) -> Operation:
    return Operation(words, kinds=(_PAGE,))


def _asset() -> Operation:
    kinds = ("text/javascript", "text/css", "image/svg+xml", "application/json")
    return Operation("scripts and styles of the pages", kinds=kinds)


def _query(words: str) -> Operation:
    return Operation(words, _RANGE, _OVER, failures=_TURNS)


OPERATIONS: Mapping[str, Operation] = {
    "GET /": Operation(
        "answers `Ollama is running`, as Ollama does", kinds=("text/plain",)
    ),
    "GET /api/ps": Operation("loaded models of all nodes"),
    "GET /api/status": Operation("Ollama's cloud status: disabled"),
    "GET /api/tags": Operation("models that some node has"),
    "GET /api/version": Operation("the oldest Ollama version of the fleet"),
    "GET /v1/models": Operation("models that some node has, as OpenAI lists them"),
    "GET /v1/models/<path:name>": Operation("one model"),
    "GET /v1/jobs": Operation(
        "jobs, newest first: `limit`, `after`, `state`",
        {**_OF_PAGE, "state": _one_of(*JobState)},
        failures=_TURNS,
    ),
    "POST /v1/jobs": Operation(
        "create a job: multipart form, or JSON with `file_id`",
        body=_JOB,
        status=201,
        failures=_CONFLICT | _TURNS,
    ),
    "POST /v1/jobs/preview": Operation(
        "columns, first rows and prompts of a file",
        body={JSON: _object("file_id", file_id=_NAMED, template=_TEXT, **_READING)},
        failures=_TURNS,
    ),
    "GET /v1/jobs/<job>": Operation("one job and its progress"),
    "DELETE /v1/jobs/<job>": _job_change(
        "delete a job that has ended, with all that belongs to it"
    ),
    "POST /v1/jobs/<job>/cancel": _job_change("end a job; results so far stay"),
    "GET /v1/jobs/<job>/events": Operation(
        "progress and partial results as events; `text`",
        {"text": _FLAG},
        kinds=("text/event-stream",),
    ),
    "GET /v1/jobs/<job>/output": Operation(
        "the output of a job that has ended, as a file",
        kinds=(_LINES, "text/plain", JSON),
        failures=_CONFLICT | _TURNS,
    ),
    "GET /v1/jobs/<job>/partial": Operation(
        "what the reducer has now", failures=_TURNS
    ),
    "POST /v1/jobs/<job>/pause": _job_change("start no more items"),
    "GET /v1/jobs/<job>/results": Operation(
        "results in input order",
        {
            "after": _whole(0, 10_000_000),
            "limit": _whole(1, 10_000_000),
            "failed": _FLAG,
        },
        kinds=(_LINES,),
        failures=_TURNS,
    ),
    "POST /v1/jobs/<job>/resume": _job_change("continue a paused or parked job"),
    "POST /v1/jobs/<job>/retry": _job_change("run failed items again"),
    "GET /jobs": Operation(
        "page: jobs", {**_OF_PAGE, "limit": _whole(1, 30)}, kinds=(_PAGE,)
    ),
    "GET /jobs/<job>": _page("page: one job"),
    "GET /jobs/login": Operation(
        "page: log in with an API key", {"next": _TEXT}, kinds=(_PAGE,)
    ),
    "POST /jobs/login": Operation(
        "begin a session: `key`, `next`",
        body={
            "application/x-www-form-urlencoded": _object("key", **_texts("key", "next"))
        },
        status=303,
        kinds=(_PAGE,),
        failures=frozenset({401, 403}),
    ),
    "POST /jobs/logout": Operation("end it", status=204, kinds=()),
    "GET /jobs/new": _page("page: create a job"),
    "GET /jobs/assets/<path:filename>": _asset(),
    "GET /v1/batches": Operation("OpenAI: list batches", _OF_PAGE),
    "POST /v1/batches": Operation(
        "OpenAI: create a batch", body={JSON: _BATCH}, failures=_CONFLICT | _TURNS
    ),
    "GET /v1/batches/<job>": Operation("OpenAI: one batch"),
    "POST /v1/batches/<job>/cancel": _job_change("OpenAI: cancel a batch"),
    "GET /v1/files": Operation(
        "OpenAI: list files",
        {**_OF_PAGE, "limit": _whole(1, 10_000), "purpose": _TEXT},
        failures=_TURNS,
    ),
    "POST /v1/files": Operation(
        "OpenAI: upload a file", body={_FORM: _UPLOADED}, failures=_TURNS
    ),
    "GET /v1/files/<file>": Operation("OpenAI: one file's description"),
    "DELETE /v1/files/<file>": _job_change("OpenAI: delete a file"),
    "GET /v1/files/<file>/content": Operation(
        "OpenAI: download a file", kinds=(_BYTES,), failures=_TURNS
    ),
    "POST /v1/uploads": Operation(
        "OpenAI: begin an upload in parts",
        body={JSON: _UPLOAD},
        failures=_CONFLICT | _TURNS,
    ),
    "POST /v1/uploads/<upload>/cancel": _job_change("OpenAI: discard an upload"),
    "POST /v1/uploads/<upload>/complete": Operation(
        "OpenAI: make a file of the parts",
        body={JSON: _PARTS},
        failures=_CONFLICT,
    ),
    "POST /v1/uploads/<upload>/parts": Operation(
        "OpenAI: add a part",
        body={
            _FORM: {
                "type": "object",
                "properties": {"data": _FILE},
                "required": ["data"],
            }
        },
        failures=_CONFLICT | _TURNS,
    ),
    "GET /usage": Operation(
        "page: who used what in a month",
        {name: _USAGE[name] for name in ("month", "by")},
        kinds=(_PAGE,),
    ),
    "GET /boards": _page("page: Grafana's boards, drawn by the router"),
    "GET /boards/<uid>": _page("page: one board"),
    "GET /boards/<uid>/board.json": Operation("a board as it is committed"),
    "GET /boards/<uid>/panels/<int:panel>/<target>": _query(
        "Prometheus' answer to a query of a board: `from`, `to` (unix seconds),"
        " `points`, `var-NAME`"
    ),
    "GET /boards/<uid>/marks/<int:number>": _query("the same for an annotation"),
    "GET /boards/<uid>/variables/<name>": _query("values of a board's variable"),
    "GET /boards/assets/<path:filename>": _asset(),
    "GET /admin/explain": Operation(
        "the newest decisions; with `model` a dry run", {"model": _TEXT}
    ),
    "GET /admin/explain/<request_id>": Operation("why a request went where it went"),
    "GET /admin/audit": Operation(
        "who changed what, newest first: `actor`, `client`, `action`, `target`,"
        " `since`, `before`, `after`, `limit`",
        _AUDIT,
    ),
    "GET /admin/usage": Operation(
        "requests, tokens, energy and money: `by`, `since`, `before`, `month`,"
        " `principal`, `model`, `node`, `format`",
        _USAGE,
        kinds=(JSON, "text/csv"),
    ),
    "GET /admin/holds": Operation("all holds"),
    "GET /admin/holds/history": Operation("changes of holds, newest first", _HISTORY),
    "GET /admin/keys": Operation(
        "all API keys, without their secrets; whether one is required"
    ),
    "POST /admin/keys": Operation(
        "create an API key; its secret is shown this once",
        body={JSON: KeyTerms.model_json_schema(ref_template=_PARTS_OF_PYDANTIC)},
        status=201,
        failures=_CONFLICT,
    ),
    "GET /admin/keys/<key>": Operation("one API key, by id or name"),
    "DELETE /admin/keys/<key>": _change("revoke an API key", ""),
    "POST /admin/keys/<key>/rotate": _change(
        "a new secret; `overlap_seconds` for the old one",
        "",
        overlap_seconds=_whole(0, 90 * 86_400),
    ),
    "GET /admin/nodes": Operation(
        "all nodes: state, score, load, models, holds, circuits"
    ),
    "POST /admin/nodes": Operation(
        "add a node to the inventory: `name`, `address`, `labels`",
        body={JSON: _NODE},
        failures=_CONFLICT,
    ),
    "GET /admin/nodes/<name>": Operation("one node"),
    "POST /admin/nodes/<name>/clear": _change(
        "clear a latched hold of an alert", "alert", alert=_ALERT, **_BY
    ),
    "POST /admin/nodes/<name>/cordon": _change(
        "keep new work away; `minutes`, `silence`", "", **_CORDON
    ),
    "POST /admin/nodes/<name>/drain": _change(
        "cordon, and report what is in flight",
        "",
        **_CORDON,
        wait_seconds=_whole(0, 300),
    ),
    "POST /admin/nodes/<name>/override": _change(
        "serve despite an alert: `alert`, `minutes`",
        "alert minutes",
        alert=_ALERT,
        minutes=_whole(1, 7 * 24 * 60),
        **_BY,
    ),
    "DELETE /admin/nodes/<name>/override": _change(
        "end an override", "alert", alert=_ALERT, by=_SHORT
    ),
    "POST /admin/nodes/<name>/trial": _change("try open circuits of a node now", ""),
    "POST /admin/nodes/<name>/uncordon": _change("lift operators' holds", "", **_BY),
    "GET /admin/overrides": Operation("all overrides"),
    "GET /admin/queue": Operation("waiting requests by priority"),
    "POST /admin/reload": _change(
        "read configuration again; `confirmed`", "", confirmed=_FLAG
    ),
    "POST /admin/what-if": _change(
        "what would follow from these `alerts`; changes nothing",
        "",
        alerts={"type": "array", "items": _LABELS, "maxItems": 1000},
    ),
    "POST /webhook/alertmanager": Operation(
        "Alertmanager's notifications",
        body={JSON: Notification.model_json_schema(ref_template=_PARTS_OF_PYDANTIC)},
        failures=frozenset({503}),
    ),
    "GET /healthz": Operation("the process answers"),
    "GET /metrics": Operation("metrics for Prometheus", kinds=("text/plain",)),
    "GET /openapi.json": Operation("this API as an OpenAPI 3.1 description"),
    "GET /readyz": Operation(
        "ready, or the reason why not; `warnings`", failures=frozenset({503})
    ),
}
