"""Which of Ollama's endpoints answered, how long each took, and what failed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from exporters.errors import BackendError, BadAnswerError, NoAnswerError
from exporters.families import Family, Kind
from exporters.fetch import Fetch

T = TypeVar("T")


class Endpoint(StrEnum):
    VERSION = "version"
    PS = "ps"
    TAGS = "tags"


class Failure(StrEnum):
    NO_ANSWER = "no_answer"
    BAD_ANSWER = "bad_answer"


@dataclass(frozen=True, slots=True)
class Call:
    """One call of one scrape; error None where it got a proper answer."""

    endpoint: Endpoint
    seconds: float
    error: BackendError | None


class Endpoints:
    """Asks the endpoints of one Ollama; failures are counted over scrapes."""

    def __init__(self, base_url: str, fetch: Fetch, clock: Callable[[], float]) -> None:
        self._base_url = base_url
        self._fetch = fetch
        self._clock = clock
        self._failures = {(e, f): 0 for e in Endpoint for f in Failure}

    def ask(
        self,
        calls: list[Call],
        endpoint: Endpoint,
        deadline: float,
        read: Callable[[object], T],
    ) -> T | None:
        """Return what was read; None where it failed, as the call added tells."""
        url = f"{self._base_url}/api/{endpoint}"
        began = self._clock()
        error: BackendError | None = None
        value: T | None = None
        try:
            value = read(self._fetch(url, deadline))
        except BackendError as failure:
            error = failure
        except ValueError as failure:
            error = BadAnswerError(f"GET {url}: {failure}")
        if error is not None:
            self._failures[endpoint, _kind(error)] += 1
        calls.append(Call(endpoint, self._clock() - began, error))
        return value

    def families(self, calls: list[Call]) -> Iterator[Family]:
        up = Family(
            "inferops_ollama_endpoint_up",
            "Whether GET /api/version, /api/ps or /api/tags got a proper answer.",
        )
        duration = Family(
            "inferops_ollama_endpoint_duration_seconds",
            "How long that call took, or was waited for.",
        )
        for call in calls:
            up.add(call.error is None, endpoint=call.endpoint)
            duration.add(call.seconds, endpoint=call.endpoint)
        failures = Family(
            "inferops_ollama_endpoint_failures_total",
            "Calls that got no answer in time, or one that the API does not allow.",
            Kind.COUNTER,
        )
        for (endpoint, kind), count in self._failures.items():
            failures.add(count, endpoint=endpoint, reason=kind)
        yield from (up, duration, failures)


def _kind(error: BackendError) -> Failure:
    silent = isinstance(error, NoAnswerError)
    return Failure.NO_ANSWER if silent else Failure.BAD_ANSWER
