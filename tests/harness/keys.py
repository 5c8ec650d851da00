"""API keys for tests: a router that needs one, the operator's token, more keys."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.harness.ports import free_port
from tests.harness.router import Router
from tests.harness.simulator import Simulated, SimulatedFleet

OPERATOR_TOKEN = "admin-token-for-tests"


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


OPERATOR = bearer(OPERATOR_TOKEN)


def admin_token(folder: Path) -> dict[str, str]:
    """Write the operator's token; return the setting that names its file."""
    path = folder / "admin-token"
    path.write_text(OPERATOR_TOKEN)
    return {"ADMIN__TOKEN_FILE": str(path)}


@contextmanager
def keyed_router(
    folder: Path, nodes: Sequence[Simulated], **settings: str
) -> Iterator[Router]:
    """Run a router over simulated nodes, for which everybody needs a key."""
    given = {"ACCESS__KEYS": "required", **admin_token(folder), **settings}
    with (
        SimulatedFleet(folder, nodes) as fleet,
        Router(
            folder, fleet.inventory, prometheus_port=free_port(), settings=given
        ) as router,
    ):
        yield router


def make_key(router: Router, name: str, **terms: Any) -> str:
    """Make a key as the operator; return its secret."""
    answer = router.post("/admin/keys", {"name": name, **terms}, headers=OPERATOR)
    assert 201 == answer.status_code, answer.text
    return str(answer.json()["key"])
