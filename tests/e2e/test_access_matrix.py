"""Every route by every scope, no key and another owner's key, at a real router.

The table is written by hand: a route that is added has no entry, and fails here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from router.text.api_key import Scope
from router.web.access_page import served
from tests.harness.keys import OPERATOR, bearer, keyed_router, make_key
from tests.harness.poll import until
from tests.harness.router import Router
from tests.harness.simulator import Simulated

pytestmark = pytest.mark.e2e

# The scopes of which one is needed; empty: no key. `admin` opens everything.
MATRIX = {
    "GET /": "",
    "GET /admin/audit": "admin-read",
    "GET /admin/explain": "admin-read inference",
    "GET /admin/explain/<request_id>": "admin-read inference",
    "GET /admin/holds": "admin-read",
    "GET /admin/holds/history": "admin-read",
    "GET /admin/keys": "admin-read",
    "POST /admin/keys": "admin",
    "DELETE /admin/keys/<key>": "admin",
    "GET /admin/keys/<key>": "admin-read",
    "POST /admin/keys/<key>/rotate": "admin",
    "GET /admin/nodes": "admin-read",
    "GET /admin/nodes/<name>": "admin-read",
    "POST /admin/nodes": "admin",
    "POST /admin/nodes/<name>/clear": "admin",
    "POST /admin/nodes/<name>/cordon": "admin",
    "POST /admin/nodes/<name>/drain": "admin",
    "DELETE /admin/nodes/<name>/override": "admin",
    "POST /admin/nodes/<name>/override": "admin",
    "POST /admin/nodes/<name>/trial": "admin",
    "POST /admin/nodes/<name>/uncordon": "admin",
    "GET /admin/overrides": "admin-read",
    "GET /admin/queue": "admin-read",
    "POST /admin/reload": "admin",
    "POST /admin/what-if": "admin",
    "GET /admin/usage": "admin-read inference",
    "POST /api/chat": "inference",
    "POST /api/embed": "inference",
    "POST /api/embeddings": "inference",
    "POST /api/generate": "inference",
    "GET /api/ps": "inference",
    "POST /api/show": "inference",
    "GET /api/status": "inference",
    "GET /api/tags": "inference",
    "GET /api/version": "inference",
    "GET /v1/jobs": "jobs",
    "POST /v1/jobs": "jobs",
    "DELETE /v1/jobs/<job>": "jobs",
    "GET /v1/jobs/<job>": "jobs",
    "POST /v1/jobs/<job>/cancel": "jobs",
    "GET /v1/jobs/<job>/events": "jobs",
    "GET /v1/jobs/<job>/output": "jobs",
    "GET /v1/jobs/<job>/partial": "jobs",
    "POST /v1/jobs/<job>/pause": "jobs",
    "GET /v1/jobs/<job>/results": "jobs",
    "POST /v1/jobs/<job>/resume": "jobs",
    "POST /v1/jobs/<job>/retry": "jobs",
    "POST /v1/jobs/preview": "jobs",
    "GET /usage": "admin-read inference",
    "GET /boards": "admin-read",
    "GET /boards/<uid>": "admin-read",
    "GET /boards/<uid>/board.json": "admin-read",
    "GET /boards/<uid>/marks/<int:number>": "admin-read",
    "GET /boards/<uid>/panels/<int:panel>/<target>": "admin-read",
    "GET /boards/<uid>/variables/<name>": "admin-read",
    "GET /boards/assets/<path:filename>": "",
    "GET /healthz": "",
    "GET /jobs": "jobs",
    "GET /jobs/<job>": "jobs",
    "GET /jobs/assets/<path:filename>": "",
    "GET /jobs/login": "",
    "GET /jobs/new": "jobs",
    "POST /jobs/login": "",
    "POST /jobs/logout": "",
    "GET /metrics": "metrics",
    "GET /openapi.json": "",
    "GET /readyz": "",
    "POST /v1/audio/transcriptions": "inference",
    "GET /v1/batches": "jobs",
    "POST /v1/batches": "jobs",
    "GET /v1/batches/<job>": "jobs",
    "POST /v1/batches/<job>/cancel": "jobs",
    "POST /v1/chat/completions": "inference",
    "POST /v1/completions": "inference",
    "POST /v1/embeddings": "inference",
    "GET /v1/files": "jobs",
    "POST /v1/files": "jobs",
    "DELETE /v1/files/<file>": "jobs",
    "GET /v1/files/<file>": "jobs",
    "GET /v1/files/<file>/content": "jobs",
    "POST /v1/images/edits": "inference",
    "POST /v1/images/generations": "inference",
    "POST /v1/messages": "inference",
    "GET /v1/models": "inference",
    "GET /v1/models/<path:name>": "inference",
    "POST /v1/responses": "inference",
    "POST /v1/uploads": "jobs",
    "POST /v1/uploads/<upload>/cancel": "jobs",
    "POST /v1/uploads/<upload>/complete": "jobs",
    "POST /v1/uploads/<upload>/parts": "jobs",
    "POST /webhook/alertmanager": "webhook",
}
NODES = (Simulated("one", slots=4, tokens_per_second=400.0),)
SHUT = {401, 403}
OWNED = re.compile(r"<(job|file|upload|request_id)>")
Keys = dict[str, dict[str, str]]


@pytest.fixture(scope="module")
def router(tmp_path_factory) -> Iterator[Router]:
    folder = tmp_path_factory.mktemp("matrix")
    with keyed_router(folder, NODES) as router:
        yield router


@pytest.fixture(scope="module")
def keys(router) -> Keys:
    """A key for each scope, and one of another owner for everything but admin."""
    ordinary = [scope for scope in Scope if scope is not Scope.ADMIN]
    wanted = {scope.value: [scope.value] for scope in Scope} | {"foreign": ordinary}
    return {
        name: bearer(make_key(router, name, scopes=scopes, owner=f"owner-of-{name}"))
        for name, scopes in wanted.items()
    }


@pytest.fixture(scope="module")
def things(router, keys) -> dict[str, str]:
    """A job, a file, an upload and a request of the keys for them."""
    headers = keys["jobs"]
    names = router.get("/api/tags", headers=keys["inference"]).json()["models"]
    model = names[0]["name"]
    file = router.post(
        "/v1/files",
        data={"purpose": "dataset"},
        files={"file": ("rows.csv", b"text\n" + b"x\n" * 3)},
        headers=headers,
    ).json()["id"]
    upload = router.post(
        "/v1/uploads",
        {
            "filename": "a.csv",
            "purpose": "dataset",
            "bytes": 3,
            "mime_type": "text/csv",
        },
        headers=headers,
    ).json()["id"]
    job = router.post(
        "/v1/jobs",
        {"file_id": file, "model": model, "template": "{{ text }}", "name": "mine"},
        headers=headers,
    )
    assert 201 == job.status_code, job.text
    id_ = job.json()["id"]
    until(
        lambda: (
            router.get(f"/v1/jobs/{id_}", headers=headers).json()["state"]
            == "completed"
        ),
        "the job is over",
        seconds=60,
    )
    asked = router.post(
        "/api/generate",
        {"model": model, "prompt": "hi", "options": {"num_predict": 2}},
        headers=keys["inference"],
    )
    return {
        "job": id_,
        "file": file,
        "upload": upload,
        "request_id": asked.headers["X-Request-Id"],
    }


def ask(
    router: Router, route: str, headers: dict[str, str], things: dict[str, str]
) -> requests.Response:
    method, _, path = route.partition(" ")
    path = re.sub("<int:[^>]*>", "1", path)
    path = re.sub("<([^>]*)>", lambda found: things.get(found[1], "none"), path)
    kind: dict[str, Any] = {} if method == "GET" else {"json": {}}
    answer = requests.request(
        method, router.url + path, headers=headers, timeout=30, stream=True, **kind
    )
    answer.close()
    return answer


def test_every_route_has_an_entry():
    """Nothing that is served is left out, and nothing else is said."""
    assert set(MATRIX) == {f"{method} {path}" for path, method in served()}


@pytest.mark.parametrize("route", MATRIX)
def test_scopes(router, keys, route):
    """What its scope opens, and nothing else does; 401 without a key, 403 with one."""
    needed = set(MATRIX[route].split())
    nothing: dict[str, str] = {}
    found = {
        name: ask(router, route, keys[name], nothing).status_code not in SHUT
        for name in Scope
    }
    expected = {name: not needed or name in needed | {"admin"} for name in Scope}
    assert expected == found
    without = ask(router, route, {}, nothing).status_code
    assert (without == 401) is bool(needed), without


def test_another_owner(router, keys, things):
    """It is told that there is no such thing, whatever it tries with it."""
    routes = [route for route in MATRIX if OWNED.search(route)]
    assert len(routes) > 15
    found = {
        route: ask(router, route, keys["foreign"], things).status_code
        for route in routes
        if not route.startswith("GET /admin/explain")  # `foreign` is for admin-read
    }
    assert dict.fromkeys(found, 404) == found


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/batches", "/v1/files", "/jobs"])
def test_lists_leave_out_what_others_own(router, keys, things, path):
    """Its owner and an operator see it, others do not, by `after` neither."""
    mine = {things["job"], things["file"], "mine"}
    seen = {
        name: any(each in router.get(path, headers=keys[name]).text for each in mine)
        for name in ("jobs", "admin", "foreign")
    }
    shown = path != "/v1/batches"  # the job was not made there
    assert {"jobs": shown, "admin": shown, "foreign": False} == seen
    after = things["file" if path == "/v1/files" else "job"]
    answer = router.get(f"{path}?after={after}", headers=keys["foreign"])
    assert 404 == answer.status_code


def test_another_owners_file_makes_no_job(router, keys, things):
    """A request's body opens nothing that its path would not."""
    body = {"file_id": things["file"], "model": "m", "template": "{{ text }}"}
    batch = {
        "input_file_id": things["file"],
        "endpoint": "/v1/chat/completions",
        "completion_window": "24h",
    }
    for path, fields in (
        ("/v1/jobs", body),
        ("/v1/jobs/preview", {"file_id": things["file"]}),
        ("/v1/batches", batch),
    ):
        answer = router.post(path, fields, headers=keys["foreign"])
        assert (404, True) == (answer.status_code, "no file" in answer.text), path


def test_its_owner_and_an_operator_get_on(router, keys, things):
    """The owner's other keys as well: things are the owner's, not the key's."""
    terms = {"name": "second", "scopes": ["jobs"], "owner": "owner-of-jobs"}
    second = router.post("/admin/keys", terms, headers=keys["admin"]).json()["key"]
    for headers in (keys["jobs"], keys["admin"], bearer(second), OPERATOR):
        for route in ("GET /v1/jobs/<job>/results", "GET /v1/files/<file>/content"):
            assert 200 == ask(router, route, headers, things).status_code, route
    own = f"/admin/explain/{things['request_id']}"
    for name in ("inference", "admin-read", "admin"):
        assert 200 == router.get(own, headers=keys[name]).status_code, name


def test_models_of_a_key_hold_for_its_jobs(router, keys):
    """A job's model is refused at once, and a line of a batch that names another."""
    terms = {"name": "few", "scopes": ["jobs"], "models": ["other*"]}
    made = router.post("/admin/keys", terms, headers=keys["admin"]).json()["key"]
    few = bearer(made)
    rows = {"file": ("rows.csv", b"text\nx\n")}
    form = {"model": "forbidden", "template": "{{ text }}"}
    refused = router.post("/v1/jobs", data=form, files=rows, headers=few)
    assert (403, True) == (refused.status_code, "'forbidden:latest'" in refused.text)
    body = {"model": "forbidden", "messages": [{"role": "user", "content": "x"}]}
    line = {
        "custom_id": "one",
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": body,
    }
    file = router.post(
        "/v1/files",
        data={"purpose": "batch"},
        files={"file": ("in.jsonl", json.dumps(line).encode())},
        headers=few,
    ).json()["id"]
    batch = {
        "input_file_id": file,
        "endpoint": "/v1/chat/completions",
        "completion_window": "24h",
    }
    made = router.post("/v1/batches", batch, headers=few).json()["id"]
    until(
        lambda: router.get(f"/v1/batches/{made}", headers=few).json()["error_file_id"],
        "the batch is over",
        seconds=30,
    )
    shown = router.get(f"/v1/batches/{made}", headers=few).json()
    errors = f"/v1/files/{shown['error_file_id']}/content"
    assert "model_not_allowed" in router.get(errors, headers=few).text
    assert 404 == router.get(errors, headers=keys["foreign"]).status_code
