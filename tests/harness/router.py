"""The real router: gunicorn with its own configuration, on a free port."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import requests

from tests.harness.poll import until
from tests.harness.ports import free_port
from tests.harness.process import ROOT, Process

# Quick enough for tests; nothing in them depends on the exact figures.
_QUICK = {
    "CONTROL__INTERVAL_SECONDS": "0.5",
    "CONTROL__RESIDENT_INTERVAL_SECONDS": "0.5",
    "CONTROL__PRESENT_INTERVAL_SECONDS": "1",
    "CONTROL__PROBE_TIMEOUT_SECONDS": "1",
    "SHUTDOWN__GRACE_SECONDS": "5",
}
WEBHOOK_TOKEN = "webhook-token-for-tests"


class Router:
    """One router process; `settings` are `SECTION__FIELD` overrides.

    inside: what its argument list begins with, such as `setpriv` with its arguments
            (`tests.harness.memory_cgroup`)
    app:    what gunicorn serves; env: more of its environment
    """

    def __init__(
        self,
        folder: Path,
        inventory: Path,
        *,
        prometheus_port: int,
        port: int | None = None,
        settings: Mapping[str, str] | None = None,
        inside: Sequence[str] = (),
        pass_fds: Sequence[int] = (),
        app: str = "router.wsgi:app",
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        token = folder / "webhook-token"
        token.write_text(WEBHOOK_TOKEN)
        overrides = {
            "PROMETHEUS__URL": f"http://127.0.0.1:{prometheus_port}",
            "PROMETHEUS__TIMEOUT_SECONDS": "1",
            "INVENTORY__PATH": str(inventory),
            "STATE__DIRECTORY": str(folder / "router-state"),
            "WEBHOOK__TOKEN_FILE": str(token),
            **_QUICK,
            **(settings or {}),
        }
        config = str(ROOT / "router" / "gunicorn.conf.py")
        self.env = {
            "INFEROPS_BIND": f"127.0.0.1:{self.port}",
            **(env or {}),
            **{f"INFEROPS_{name}": value for name, value in overrides.items()},
        }
        self.process = Process(
            [*inside, sys.executable, "-m", "gunicorn", "-c", config, app],
            log=folder / "router.log",
            pass_fds=pass_fds,
            env=self.env,
        )

    def wait_ready(self) -> Router:
        def ready() -> bool:
            assert self.process.running, self.process.tail()
            return self.get("/readyz").status_code == 200

        until(ready, "the router is ready", seconds=60)
        return self

    def get(self, path: str, **kwargs: Any) -> requests.Response:
        return requests.get(self.url + path, timeout=10, **kwargs)

    def post(self, path: str, json: Any = None, **kwargs: Any) -> requests.Response:
        return requests.post(self.url + path, json=json, **{"timeout": 60, **kwargs})

    def delete(self, path: str) -> requests.Response:
        return requests.delete(self.url + path, timeout=60)

    @contextlib.contextmanager
    def cordoned(self, *names: str) -> Iterator[None]:
        """Keep new requests away from nodes."""
        for name in names:
            held = self.post(f"/admin/nodes/{name}/cordon", {"reason": "test"})
            assert held.ok, held.text
        try:
            yield
        finally:
            for name in names:
                lifted = self.post(f"/admin/nodes/{name}/uncordon", {})
                assert lifted.ok, lifted.text

    def log(self) -> list[str]:
        """Return what it has written so far."""
        return self.process.log.read_text(errors="replace").splitlines()

    def nodes(self) -> dict[str, dict[str, Any]]:
        """Return `/admin/nodes` by name."""
        return {node["name"]: node for node in self.get("/admin/nodes").json()}

    def metric(self, sample: str) -> float | None:
        """Return the value of one sample, as it stands in `/metrics`."""
        for line in self.get("/metrics").text.splitlines():
            name, _, value = line.rpartition(" ")
            if name == sample:
                return float(value)
        return None

    def stop(self) -> None:
        """End it at once: nothing of it is kept, and an orderly end takes a second."""
        self.process.kill()

    def __enter__(self) -> Router:
        return self.wait_ready()

    def __exit__(self, *_: object) -> None:
        self.stop()
