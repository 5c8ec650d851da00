"""API keys at a real router: made, sent in every way, refused in every dialect."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
import requests

from router.text.api_key import digest_of, new_secret
from tests.harness.keys import OPERATOR, OPERATOR_TOKEN, admin_token, bearer, make_key
from tests.harness.ollama import ollama_binary
from tests.harness.poll import until
from tests.harness.ports import free_port
from tests.harness.process import ROOT
from tests.harness.router import WEBHOOK_TOKEN, Router
from tests.harness.simulator import Simulated, SimulatedFleet

pytestmark = pytest.mark.e2e

NODES = (Simulated("one", slots=4, tokens_per_second=2000.0),)
OF_FILE = new_secret()


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("keys")
    (folder / "keys.yml").write_text(entry("from-file", OF_FILE))
    return folder


@pytest.fixture(scope="module")
def router(home) -> Iterator[Router]:
    settings = {
        **admin_token(home),
        "ACCESS__KEYS_FILE": str(home / "keys.yml"),
    }
    with (
        SimulatedFleet(home, NODES) as fleet,
        Router(
            home, fleet.inventory, prometheus_port=free_port(), settings=settings
        ) as router,
    ):
        yield router


def entry(name: str, secret: str) -> str:
    return f"keys: [{{name: {name}, sha256: {digest_of(secret)}}}]\n"


def model(router: Router) -> str:
    models = router.get("/api/tags", headers=OPERATOR).json()["models"]
    return str(models[0]["name"])


def chat(router: Router, headers: dict[str, str], **more: Any) -> requests.Response:
    body = {
        "model": model(router),
        "messages": [{"role": "user", "content": "hi"}],
        "options": {"num_predict": 2},
        "stream": False,
        **more,
    }
    return router.post("/api/chat", body, headers=headers)


def cli(
    router: Router, *arguments: str, key: str = OPERATOR_TOKEN
) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "router.cli", *arguments, "--url", router.url],
        env={**os.environ, "INFEROPS_API_KEY": key},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("way", ["bearer", "x-api-key", "basic", "path"])
def test_each_way_to_send_a_key(router, way):
    """OpenAI's header, Anthropic's, a login, and the `ollama` command's path."""
    headers, start = {
        "bearer": (bearer(OF_FILE), ""),
        "x-api-key": ({"x-api-key": OF_FILE}, ""),
        "basic": (
            {
                "Authorization": "Basic "
                + base64.b64encode(f"me:{OF_FILE}".encode()).decode()
            },
            "",
        ),
        "path": ({}, f"/key/{OF_FILE}"),
    }[way]
    assert 200 == router.get(f"{start}/api/tags", headers=headers).status_code
    body = {"model": model(router), "prompt": "hi", "options": {"num_predict": 2}}
    assert (
        200 == router.post(f"{start}/api/generate", body, headers=headers).status_code
    )


def test_a_key_in_a_path_is_for_inference_only(router):
    """It opens no other route, and no error says it back."""
    admin = make_key(router, "path-admin", scopes=["admin"])
    for path in ("/admin/nodes", "//admin/nodes", "/v1/jobs", "/metrics", "/nonsense"):
        answer = router.get(f"/key/{admin}{path}")
        assert 401 == answer.status_code, path
        assert admin not in answer.text


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/api/chat", lambda e: e["error"]),
        ("/v1/chat/completions", lambda e: e["error"]["message"]),
        ("/v1/messages", lambda e: e["error"]["message"]),
    ],
    ids=["ollama", "openai", "anthropic"],
)
@pytest.mark.parametrize(
    ("headers", "text"),
    [
        ({}, "needs an API key"),
        (bearer("sk-inferops-nobody"), "not known here"),
        ({"x-api-key": "unused"}, "not known here"),
    ],
    ids=["none", "unknown", "foreign"],
)
def test_errors_in_the_dialect(router, path, kind, headers, text):
    """Each protocol's own error object, and how to send a key."""
    answer = router.post(path, {"model": "m"}, headers=headers)
    assert (401, 'Bearer realm="InferOps"') == (
        answer.status_code,
        answer.headers["WWW-Authenticate"],
    )
    assert text in kind(answer.json())
    types = {
        "/v1/chat/completions": "authentication_error",
        "/v1/messages": "authentication_error",
    }
    if path in types:
        assert types[path] == answer.json()["error"]["type"]


def test_what_a_scope_opens(router):
    """403 for what a key is not for; its own records are open to it."""
    key = bearer(make_key(router, "inference-only"))
    answer = chat(router, key)
    assert 200 == answer.status_code, answer.text
    for path in ("/admin/nodes", "/v1/jobs", "/metrics", "/admin/keys"):
        refused = router.get(path, headers=key)
        assert 403 == refused.status_code, path
        assert "it needs" in refused.text
    assert 403 == router.post("/admin/reload", {}, headers=key).status_code
    asked = answer.headers["X-Request-Id"]
    assert 200 == router.get(f"/admin/explain/{asked}", headers=key).status_code
    assert asked in router.get("/admin/explain", headers=key).text
    assert asked in router.get("/admin/explain", headers=OPERATOR).text
    foreign = bearer(OF_FILE)
    assert 404 == router.get(f"/admin/explain/{asked}", headers=foreign).status_code
    assert asked not in router.get("/admin/explain", headers=foreign).text
    for path in ("/", "/healthz", "/readyz"):
        assert 200 == router.get(path).status_code
    assert 404 == router.get("/v1/nonsense", headers=key).status_code
    assert 401 == router.get("/v1/nonsense").status_code


def test_admin_key(router):
    """It does what the admin token does, under its own name."""
    key = bearer(make_key(router, "operator-eve", scopes=["admin"]))
    assert router.post("/admin/nodes/one/cordon", {"reason": "x"}, headers=key).ok
    history = router.get("/admin/holds/history", headers=key).json()
    assert "key:operator-eve" in json.dumps(history)
    assert router.post("/admin/nodes/one/uncordon", {}, headers=key).ok


def test_models_of_a_key(router):
    """Lists show what it may use, and nothing else answers."""
    wanted = model(router)
    other = bearer(make_key(router, "other-models", models=["nothing-*"]))
    assert [] == router.get("/api/tags", headers=other).json()["models"]
    assert [] == router.get("/v1/models", headers=other).json()["data"]
    assert 404 == router.get(f"/v1/models/{wanted}", headers=other).status_code
    refused = chat(router, other)
    assert (403, f"this API key is not for model '{wanted}'") == (
        refused.status_code,
        refused.json()["error"],
    )
    shown = router.post("/api/show", {"model": wanted}, headers=other)
    assert 403 == shown.status_code
    some = bearer(
        make_key(router, "some-models", models=[wanted.partition(":")[0] + "*"])
    )
    assert 200 == chat(router, some).status_code
    assert wanted in router.get("/api/tags", headers=some).text


def test_networks_of_a_key(router):
    """A key for another network is refused from here."""
    key = bearer(make_key(router, "elsewhere", networks=["10.99.0.0/16"]))
    refused = router.get("/api/tags", headers=key)
    assert (403, True) == (refused.status_code, "this address" in refused.text)


def test_users_of_a_proxy(router):
    """A proxy's key names who asks: what is theirs is nobody else's."""
    key = make_key(router, "sso", scopes=["inference", "jobs"], user_header="X-User")
    alice, bob = (  # http.client writes a header's text as Latin-1
        {**bearer(key), "X-User": name.encode().decode("latin-1")}
        for name in ("alice@example.org", "Bób")
    )
    assert [200, 200] == [chat(router, who).status_code for who in (alice, bob)]
    nobody = chat(router, bearer(key))
    assert (403, True) == (nobody.status_code, "'X-User'" in nobody.json()["error"])
    assert 403 == router.get("/admin/nodes", headers=alice).status_code

    line = {"custom_id": "1", "method": "POST", "url": "/v1/chat/completions"}
    files = {"file": ("in.jsonl", json.dumps(line)), "purpose": (None, "batch")}
    made = requests.post(
        f"{router.url}/v1/files", files=files, headers=alice, timeout=10
    ).json()["id"]
    seen = [router.get(f"/v1/files/{made}", headers=who) for who in (alice, bob)]
    assert [200, 404] == [each.status_code for each in seen]

    def used() -> set[str]:
        found = router.get("/admin/usage", headers=OPERATOR).json()["usage"]
        return {str(each["name"]) for each in found}

    until(lambda: {"user:alice@example.org", "user:Bób"} <= used(), "both are counted")


def test_webhook_takes_its_token_or_a_key(router):
    """Alertmanager's token works as before; so does a key for it, and no other."""
    body = {"version": "4", "status": "firing", "alerts": [], "groupLabels": {}}
    hook = bearer(make_key(router, "hook", scopes=["webhook"]))
    answers = {
        name: router.post("/webhook/alertmanager", body, headers=headers).status_code
        for name, headers in {
            "token": bearer(WEBHOOK_TOKEN),
            "key": hook,
            "wrong": bearer("x"),
            "none": {},
            "other key": bearer(OF_FILE),
        }.items()
    }
    assert {401, 403} >= {answers.pop(name) for name in ("wrong", "none", "other key")}
    assert {401, 403}.isdisjoint(answers.values()), answers


def test_the_command_line(router):
    """Made, used, rotated and revoked; standard output is the key alone."""
    made = cli(
        router, "keys", "create", "cli-key", "--scope", "inference", "--tag", "t"
    )
    key = made.stdout.strip()
    assert (0, True) == (made.returncode, key.startswith("sk-inferops-")), made.stderr
    assert 200 == router.get("/api/tags", headers=bearer(key)).status_code
    listed = json.loads(cli(router, "keys", "list", "--json").stdout)
    (shown,) = [each for each in listed["keys"] if each["name"] == "cli-key"]
    assert (["t"], "active") == (shown["tags"], shown["state"])
    assert key not in json.dumps(listed)
    rotated = cli(router, "keys", "rotate", "cli-key", "--overlap", "0s").stdout.strip()
    assert 401 == router.get("/api/tags", headers=bearer(key)).status_code
    assert 200 == router.get("/api/tags", headers=bearer(rotated)).status_code
    assert 0 == cli(router, "keys", "revoke", "cli-key").returncode
    assert 401 == router.get("/api/tags", headers=bearer(rotated)).status_code
    refused = cli(router, "keys", "list", key=OF_FILE)
    assert (3, True) == (refused.returncode, "it needs admin-read" in refused.stderr)
    made = cli(router, "keys", "create", "short", "--expires", "1s", "--json")
    short = json.loads(made.stdout)["key"]
    until(
        lambda: router.get("/api/tags", headers=bearer(short)).status_code == 401,
        "the key has expired",
        seconds=10,
    )


def test_bad_terms(router):
    """What is wrong is named."""
    for terms, text in (
        ({"name": "x", "scopes": ["all"]}, "scopes[0]: must be one of inference"),
        ({"name": "x", "model": "m"}, "model: is unknown, perhaps 'models'"),
        ({}, "name: is required"),
        ({"name": "from-file"}, "there is a key 'from-file'"),
    ):
        answer = router.post("/admin/keys", terms, headers=OPERATOR)
        assert answer.status_code in {400, 409}
        assert text in answer.json()["error"], answer.text


def test_the_file_is_reloaded(router, home):
    """A key that is added works without a restart; one that is taken out does not."""
    later = new_secret()
    try:
        (home / "keys.yml").write_text(entry("later", later))
        until(
            lambda: router.get("/api/tags", headers=bearer(later)).ok,
            "the new key works",
        )
        assert 401 == router.get("/api/tags", headers=bearer(OF_FILE)).status_code
        (home / "keys.yml").write_text("keys: [{name: broken}]")
        files = router.post("/admin/reload", {}, headers=OPERATOR).json()["files"]
        (shown,) = [each for each in files if each["file"] == "keys.yml"]
        assert (False, "keys.yml: keys[0].sha256: is required") == (
            shown["successful"],
            shown["fault"],
        )
        assert router.get("/api/tags", headers=bearer(later)).ok  # the last good one
    finally:
        (home / "keys.yml").write_text(entry("from-file", OF_FILE))
        assert router.post("/admin/reload", {}, headers=OPERATOR).ok


def test_openai_client(router):
    """Unmodified, with its key and with a wrong one."""
    client = openai.OpenAI(base_url=f"{router.url}/v1", api_key=OF_FILE)
    assert [each.id for each in client.models.list()]
    wrong = openai.OpenAI(
        base_url=f"{router.url}/v1", api_key="sk-wrong", max_retries=0
    )
    with pytest.raises(openai.AuthenticationError, match="not known here"):
        wrong.models.list()


@pytest.mark.skipif(ollama_binary() is None, reason="no ollama on PATH")
def test_the_ollama_command(router, tmp_path):
    """It sends a key in the path; a login in the URL it refuses itself."""

    def listed(host: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(ollama_binary()), "list"],
            env={"OLLAMA_HOST": host, "HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    with_key = listed(f"{router.url}/key/{OF_FILE}")
    assert (0, True) == (with_key.returncode, model(router) in with_key.stdout)
    assert "needs an API key" in listed(router.url).stderr
    with_login = listed(f"http://me:{OF_FILE}@127.0.0.1:{router.port}")
    assert "invalid URL escape" in with_login.stderr


def test_no_key_is_written_anywhere(router, home):
    """Neither the log nor the store nor the metrics have a key in them."""
    key = make_key(router, "seen-nowhere", scopes=["inference", "metrics"])
    for headers in (bearer(key), {"x-api-key": key}, {}):
        router.get("/api/tags", headers=headers)
        router.get(f"/key/{key}/api/tags?x={key}", headers=headers)
        router.get(f"/key/{key}/admin/nodes", headers=headers)
        router.post("/api/chat", {"model": key}, headers=bearer(key))
    metrics = router.get("/metrics", headers=bearer(key)).text
    assert "inferops_rejections_total" in metrics
    assert key not in metrics
    state = home / "router-state"
    files = [
        home / "router.log",
        *(each for each in state.rglob("*") if each.is_file()),
    ]
    assert [] == [each for each in files if key.encode() in each.read_bytes()]
