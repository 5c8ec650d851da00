"""Follows a job over broken connections and restarts of the router."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from router.cli.client import Client, LostError
from router.cli.console import Console, Progress

_PATIENCE_SECONDS = 120.0
_PAUSE_SECONDS = 1.0


class Detached(Exception):  # noqa: N818 - no error: somebody has seen enough
    """Ctrl-C; the job goes on."""


@dataclass(frozen=True, slots=True)
class Time:
    """The clock that patience is measured by, and how to wait."""

    now: Callable[[], float] = time.monotonic
    pause: Callable[[float], None] = time.sleep


def follow(client: Client, console: Console, job: str, time: Time) -> dict[str, Any]:
    """Show a job until it is over, and return it.

    Raises Detached, LostError once the router was away for two minutes, and
    CliError where there is no such job.
    """
    name = client.get(f"/v1/jobs/{job}")["name"]
    watch = _Watch(client, console, job, time)
    try:
        with console.progress(name) as progress:
            return watch.to_its_end(progress)
    except KeyboardInterrupt:
        raise Detached from None


class _Watch:
    def __init__(self, client: Client, console: Console, job: str, time: Time) -> None:
        self._client = client
        self._console = console
        self._job = job
        self._time = time
        self._heard_at = time.now()

    def to_its_end(self, progress: Progress) -> dict[str, Any]:
        while True:
            fault: LostError | None = None
            try:
                ended = self._listen(progress)
            except LostError as error:
                fault, ended = error, None
            if ended is not None:
                return ended
            if self._time.now() - self._heard_at > _PATIENCE_SECONDS:
                raise fault or LostError("the router ends the connection each time")
            self._time.pause(_PAUSE_SECONDS)

    def _listen(self, progress: Progress) -> dict[str, Any] | None:
        """Show one connection's events; None where it ends before the job does."""
        for event in self._client.events(self._job):
            self._heard_at = self._time.now()
            if self._console.json:
                self._console.data({"event": event.kind, "data": event.data})
            if event.kind == "end":
                return event.data
            if event.kind == "progress":
                progress.show(event.data)
        return None
