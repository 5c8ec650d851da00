"""API keys for tests: the operator's token, and keys made with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.harness.router import Router

OPERATOR_TOKEN = "admin-token-for-tests"


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


OPERATOR = bearer(OPERATOR_TOKEN)


def admin_token(folder: Path) -> dict[str, str]:
    """Write the operator's token; return the setting that names its file."""
    path = folder / "admin-token"
    path.write_text(OPERATOR_TOKEN)
    return {"ADMIN__TOKEN_FILE": str(path)}


def make_key(router: Router, name: str, **terms: Any) -> str:
    """Make a key as the operator; return its secret."""
    answer = router.post("/admin/keys", {"name": name, **terms}, headers=OPERATOR)
    assert 201 == answer.status_code, answer.text
    return str(answer.json()["key"])
