"""/probe: the Ollama collector against a target of the caller's choice."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from functools import partial

from exporters.access import Access
from exporters.addresses import backend_url
from exporters.allowlist import Allowed
from exporters.collectors import Collector
from exporters.runner import Runner

REMEMBERED = 256  # targets whose hung or recent run is remembered


class RefusedError(Exception):
    """This target is not probed; `status` is what HTTP says of it."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def _ollama(base_url: str, access: Access) -> Collector:
    # Imported here: an exporter that is never probed goes without.
    from exporters.collectors.ollama import OllamaCollector  # noqa: PLC0415
    from exporters.fetch import get_json  # noqa: PLC0415

    return OllamaCollector(base_url, partial(get_json, access=access))


class Prober:
    """One runner for each target, so that a target that hangs holds one thread."""

    def __init__(
        self,
        allowed: Allowed,
        build: Callable[[str, Access], Collector] = _ollama,
    ) -> None:
        self._allowed = allowed
        self._build = build
        self._lock = threading.Lock()
        self._runners: OrderedDict[tuple[str, Access], Runner] = OrderedDict()

    def runner(self, targets: list[str]) -> Runner:
        """Return what probes the one target given; raises RefusedError."""
        if len(targets) != 1:
            raise RefusedError(400, f"target: give one, got {len(targets)}")
        try:
            target = backend_url(targets[0], path=True)
        except ValueError as error:
            raise RefusedError(400, f"target: {error}") from error
        access = self._allowed.access(target)
        if access is None:
            raise RefusedError(403, f"target: not among --probe-targets: {target!r}")
        return self._remembered(target, access)

    def _remembered(self, target: str, access: Access) -> Runner:
        key = target, access
        with self._lock:
            runner = self._runners.get(key)
            if runner is None:
                runner = Runner({"ollama": self._build(target, access)})
                self._runners[key] = runner
            self._runners.move_to_end(key)
            while len(self._runners) > REMEMBERED:
                self._runners.popitem(last=False)
            return runner
