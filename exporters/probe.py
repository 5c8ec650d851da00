"""/probe: the Ollama collector against a target of the caller's choice."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable

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


def _ollama(base_url: str) -> Collector:
    # Imported here: an exporter that is never probed goes without.
    from exporters.collectors.ollama import OllamaCollector  # noqa: PLC0415

    return OllamaCollector(base_url)


class Prober:
    """One runner for each target, so that a target that hangs holds one thread."""

    def __init__(
        self,
        allowed: Allowed,
        build: Callable[[str], Collector] = _ollama,
    ) -> None:
        self._allowed = allowed
        self._build = build
        self._lock = threading.Lock()
        self._runners: OrderedDict[str, Runner] = OrderedDict()

    def runner(self, targets: list[str]) -> Runner:
        """Return what probes the one target given; raises RefusedError."""
        if len(targets) != 1:
            raise RefusedError(400, f"target: give one, got {len(targets)}")
        try:
            target = backend_url(targets[0])
        except ValueError as error:
            raise RefusedError(400, f"target: {error}") from error
        if not self._allowed.allows(target):
            raise RefusedError(403, f"target: not among --probe-targets: {target!r}")
        return self._remembered(target)

    def _remembered(self, target: str) -> Runner:
        with self._lock:
            runner = self._runners.get(target)
            if runner is None:
                runner = Runner({"ollama": self._build(target)})
                self._runners[target] = runner
            self._runners.move_to_end(target)
            while len(self._runners) > REMEMBERED:
                self._runners.popitem(last=False)
            return runner
