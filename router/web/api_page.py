"""Write docs/api.md, every route and what it does: `python -m router.web.api_page`.

The routes are those that are served; a test fails while the page is not current.
"""

from __future__ import annotations

from pathlib import Path

from router.relay.protocols import ROUTES
from router.web.access import Area, area_of
from router.web.access_page import TITLES, served

__all__ = ["PAGE", "WORDS", "page"]

PAGE = "docs/api.md"
_HEAD = """\
# HTTP API

Written by `python -m router.web.api_page` from the routes that are served.
[Access](access.md) says who may use which; [clients](clients.md) says what inference
routes accept, [jobs](jobs.md) what `/batches` and OpenAI's batch routes accept. Errors
have the form of the route's protocol: Ollama's, OpenAI's or Anthropic's error object.
"""
_STREAMS = {True: "streams by default", False: "streams on request", None: "one answer"}
WORDS = {
    "GET /": "answers `Ollama is running`, as Ollama does",
    "GET /api/ps": "loaded models of all nodes",
    "GET /api/status": "Ollama's cloud status: disabled",
    "GET /api/tags": "models that some node has",
    "GET /api/version": "the oldest Ollama version of the fleet",
    "GET /v1/models": "models that some node has, as OpenAI lists them",
    "GET /v1/models/<path:name>": "one model",
    "GET /batches": "jobs, newest first: `limit`, `after`, `state`",
    "POST /batches": "create a job: multipart form, or JSON with `file_id`",
    "POST /batches/preview": "columns, first rows and prompts of a file",
    "GET /batches/<job>": "one job and its progress",
    "DELETE /batches/<job>": "delete a job that has ended, with all that belongs to it",
    "POST /batches/<job>/cancel": "end a job; results so far stay",
    "GET /batches/<job>/events": "progress and partial results as events; `text`",
    "GET /batches/<job>/output": "the output of a job that has ended, as a file",
    "GET /batches/<job>/partial": "what the reducer has now",
    "POST /batches/<job>/pause": "start no more items",
    "GET /batches/<job>/results": "results in input order",
    "POST /batches/<job>/resume": "continue a paused or parked job",
    "POST /batches/<job>/retry": "run failed items again",
    "GET /jobs": "page: jobs",
    "GET /jobs/<job>": "page: one job",
    "GET /jobs/login": "page: log in with an API key",
    "POST /jobs/login": "begin a session: `key`, `next`",
    "POST /jobs/logout": "end it",
    "GET /jobs/new": "page: create a job",
    "GET /jobs/assets/<path:filename>": "scripts and styles of the pages",
    "GET /v1/batches": "OpenAI: list batches",
    "POST /v1/batches": "OpenAI: create a batch",
    "GET /v1/batches/<job>": "OpenAI: one batch",
    "POST /v1/batches/<job>/cancel": "OpenAI: cancel a batch",
    "GET /v1/files": "OpenAI: list files",
    "POST /v1/files": "OpenAI: upload a file",
    "GET /v1/files/<file>": "OpenAI: one file's description",
    "DELETE /v1/files/<file>": "OpenAI: delete a file",
    "GET /v1/files/<file>/content": "OpenAI: download a file",
    "POST /v1/uploads": "OpenAI: begin an upload in parts",
    "POST /v1/uploads/<upload>/cancel": "OpenAI: discard an upload",
    "POST /v1/uploads/<upload>/complete": "OpenAI: make a file of the parts",
    "POST /v1/uploads/<upload>/parts": "OpenAI: add a part",
    "GET /boards": "page: Grafana's boards, drawn by the router",
    "GET /boards/<uid>": "page: one board",
    "GET /boards/<uid>/board.json": "a board as it is committed",
    "GET /boards/<uid>/panels/<int:panel>/<target>": "Prometheus' answer to a query of"
    " a board: `from`, `to` (unix seconds), `points`, `var-NAME`",
    "GET /boards/<uid>/marks/<int:number>": "the same for an annotation",
    "GET /boards/<uid>/variables/<name>": "values of a board's variable",
    "GET /boards/assets/<path:filename>": "scripts and styles of the pages",
    "GET /admin/explain": "the newest decisions; with `model` a dry run",
    "GET /admin/explain/<request_id>": "why a request went where it went",
    "GET /admin/audit": "who changed what, newest first: `actor`, `client`, `action`,"
    " `target`, `since`, `before`, `after`, `limit`",
    "GET /admin/usage": "requests, tokens, energy and money: `by`, `since`, `before`,"
    " `month`, `principal`, `model`, `node`, `format`",
    "GET /admin/holds": "all holds",
    "GET /admin/holds/history": "changes of holds, newest first",
    "GET /admin/keys": "all API keys, without their secrets; whether one is required",
    "POST /admin/keys": "create an API key; its secret is shown this once",
    "GET /admin/keys/<key>": "one API key, by id or name",
    "DELETE /admin/keys/<key>": "revoke an API key",
    "POST /admin/keys/<key>/rotate": "a new secret; `overlap_seconds` for the old one",
    "GET /admin/nodes": "all nodes: state, score, load, models, holds, circuits",
    "POST /admin/nodes": "add a node to the inventory: `name`, `address`, `labels`",
    "GET /admin/nodes/<name>": "one node",
    "POST /admin/nodes/<name>/clear": "clear a latched hold of an alert",
    "POST /admin/nodes/<name>/cordon": "keep new work away; `minutes`, `silence`",
    "POST /admin/nodes/<name>/drain": "cordon, and report what is in flight",
    "POST /admin/nodes/<name>/override": "serve despite an alert: `alert`, `minutes`",
    "DELETE /admin/nodes/<name>/override": "end an override",
    "POST /admin/nodes/<name>/trial": "try open circuits of a node now",
    "POST /admin/nodes/<name>/uncordon": "lift operators' holds",
    "GET /admin/overrides": "all overrides",
    "GET /admin/queue": "waiting requests by priority",
    "POST /admin/reload": "read configuration again; `confirmed`",
    "POST /admin/what-if": "what would follow from these `alerts`; changes nothing",
    "POST /webhook/alertmanager": "Alertmanager's notifications",
    "GET /healthz": "the process answers",
    "GET /metrics": "metrics for Prometheus",
    "GET /readyz": "ready, or the reason why not; `warnings`",
}


def page() -> str:
    """Return the page: a table of routes for each area."""
    parts = [_HEAD]
    for area in Area:
        routes = sorted(
            (path, method) for path, method in served() if area_of(path) is area
        )
        lines = [f"## {TITLES[area]}", "", "| route | what it does |", "|---|---|"]
        lines += [
            f"| `{method} {path}` | {_words(path, method)} |" for path, method in routes
        ]
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def _words(path: str, method: str) -> str:
    route = ROUTES.get(path)
    if route is None:
        return WORDS.get(f"{method} {path}", "")
    return f"passed to a node: {route.dialect.value}, {_STREAMS[route.streams]}"


def main() -> None:
    Path(PAGE).write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
