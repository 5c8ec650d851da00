"""Alertmanager's silences for planned work (API v2): post one, lift it again.

A silence keeps people from being told, and has no part in who serves: a failure
here is told to the operator and stops no cordon.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from router.clients.session import Service, ServiceError, exchange
from router.model import Hold

SILENCE = "silence"  # the label of a cordon that holds the silence's id
_OPEN_END_SECONDS = 24 * 3600.0


class SilenceError(Exception):
    """Alertmanager did not do it; the text says why."""


class SilenceCounters(Protocol):
    """What silences are counted with."""

    def silenced(self, operation: str, *, done: bool) -> None: ...


@dataclass(frozen=True, slots=True)
class Silence:
    """One that was posted; `until` in unix seconds."""

    id: str
    until: float


class Silences:
    """Posts and lifts silences at one Alertmanager."""

    def __init__(
        self,
        service: Service,
        tally: SilenceCounters,
        *,
        ask: Callable[..., tuple[int, Any]] = exchange,
    ) -> None:
        self._service = service
        self._tally = tally
        self._ask = ask

    def post(self, cordon: Hold) -> Silence:
        """Silence every alert of the cordoned node, as long as the cordon.

        A cordon without an end is silenced for a day. Raises SilenceError.
        """
        until = cordon.until or cordon.since + _OPEN_END_SECONDS
        node = {"name": "node", "value": cordon.node, "isRegex": False, "isEqual": True}
        body = {
            "matchers": [node],
            "startsAt": _iso(cordon.since),
            "endsAt": _iso(until),
            "createdBy": cordon.source.removeprefix("operator:"),
            "comment": f"cordoned: {cordon.reason}",
        }
        status, answer = self._call("post", "POST", "/api/v2/silences", body)
        silence = answer.get("silenceID") if isinstance(answer, dict) else None
        if status != 200 or not silence:
            self._fail("post", f"status {status}: {str(answer)[:200]}")
        self._tally.silenced("post", done=True)
        return Silence(str(silence), until)

    def lift(self, silence: str) -> None:
        """End a silence; one that has ended already is no error."""
        path = f"/api/v2/silence/{silence}"
        status, answer = self._call("lift", "DELETE", path, None)
        over = status == 404 or "already expired" in str(answer)
        if status != 200 and not over:
            self._fail("lift", f"status {status}: {str(answer)[:200]}")
        self._tally.silenced("lift", done=True)

    def _call(
        self, operation: str, method: str, path: str, body: object
    ) -> tuple[int, Any]:
        try:
            return self._ask(self._service, method, path, body=body)
        except ServiceError as error:
            self._tally.silenced(operation, done=False)
            raise SilenceError(f"alertmanager: {error}") from error

    def _fail(self, operation: str, why: str) -> None:
        self._tally.silenced(operation, done=False)
        raise SilenceError(f"alertmanager: {why}")


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
