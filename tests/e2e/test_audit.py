"""The audit log of a real router: who changed what, checked by the command line."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest

from tests.harness.poll import until

pytestmark = pytest.mark.e2e

MODEL = "llama3.2:3b"


def cli(router, *arguments: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "router.cli", "audit", *arguments]
    return subprocess.run(
        [*argv, "--url", router.url],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def found(router, **query) -> list[dict]:
    answer = router.get("/admin/audit", params=query)
    assert answer.ok, answer.text
    return answer.json()


def test_changes_are_noted(router, fleet, tmp_path):
    """Holds, keys, models and the inventory; then tampering shows."""
    router.post("/admin/nodes/fast/cordon", {"reason": "new fan"}).raise_for_status()
    (entry,) = found(router, action="admin.cordon")
    assert ("node:fast", "127.0.0.1", []) == (
        entry["target"],
        entry["client"],
        entry["before"]["holds"],
    )
    assert entry["actor"].startswith("local")
    assert entry["after"]["holds"][0]["reason"] == "new fan"
    (placed,) = found(router, action="hold.placed", target="node:fast")
    assert placed["after"]["kind"] == "cordon"
    router.post("/admin/nodes/fast/uncordon", {}).raise_for_status()
    (lifted,) = found(router, action="hold.lifted", target="node:fast")
    assert lifted["before"] == placed["after"]

    body = {"model": MODEL, "keep_alive": 0}
    for _ in range(3):
        router.post("/api/generate", body).raise_for_status()
    (unload,) = found(router, action="model.unload")
    assert ("anonymous", f"model:{MODEL}") == (unload["actor"], unload["target"])

    fleet.write(
        [{**e, "labels": {**e["labels"], "__slots": "3"}} for e in fleet.entries]
    )
    until(lambda: found(router, action="inventory.reload"), "the inventory is noted")
    (reload,) = found(router, action="inventory.reload")
    assert [3, 3] == [node["slots"] for node in reload["after"].values()]

    refused = router.post("/admin/nodes/nobody/cordon", {})
    assert refused.status_code == 404
    assert len(found(router, action="admin.cordon")) == 1

    done = cli(router, "list", "--action", "admin.cordon")
    assert "node:fast" in done.stdout, done.stderr
    checked = cli(router, "verify", "--json")
    assert checked.returncode == 0, checked.stderr
    head = json.loads(checked.stdout)["head"]

    made = router.post("/admin/keys", {"name": "ann", "scopes": ["admin"]}).json()
    bearer = {"Authorization": f"Bearer {made['key']}"}
    answer = router.get("/admin/audit?action=admin.create_key", headers=bearer)
    (created,) = answer.json()
    assert (f"key:{made['id']}", "ann") == (created["target"], created["after"]["name"])
    assert made["key"] not in answer.text

    key = tmp_path / "key"
    key.write_text(made["key"])
    again = cli(router, "verify", "--head", head, "--token-file", str(key))
    assert again.returncode == 0, again.stderr
    _tamper(tmp_path / "router-state" / "audit.sqlite")
    shown = cli(router, "verify", "--token-file", str(key))
    assert shown.returncode == 1
    assert "the audit log was changed: entry" in shown.stderr


def _tamper(path) -> None:
    """Change who did it, as somebody would who may write the file."""
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("DROP TRIGGER entries_UPDATE")
        database.execute(
            "UPDATE entries SET content = replace(content, 'new fan', 'old fan')"
        )
