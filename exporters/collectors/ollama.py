"""What an Ollama holds and keeps resident, from its own API.

Reads /api/version, /api/ps and /api/tags; never /api/show or /api/generate, which
cost the node work, load models or renew their keep-alive. Ollama's silence is a
finding (`inferops_ollama_up 0`); an answer that cannot be understood is besides a
failure of this collector. Either way the calls that did answer are served: a node
that tells its version and not what it runs is stuck, not gone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping

from prometheus_client import Metric

from exporters.errors import BadAnswerError, NoAnswerError, PartialError
from exporters.families import Family, metrics
from exporters.fetch import Fetch, get_json
from exporters.ollama import exposition, replies
from exporters.ollama.comings import LoadEvents
from exporters.ollama.endpoints import Call, Endpoint, Endpoints
from exporters.ollama.replies import Model, Resident


class OllamaCollector:
    """Asks one Ollama, given by its base URL without a trailing slash.

    Counts over scrapes what comes and goes; the runner has one run of it at a time.
    """

    def __init__(
        self,
        base_url: str,
        fetch: Fetch = get_json,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._endpoints = Endpoints(base_url, fetch, clock)
        self._comings = LoadEvents()
        self._clock = clock
        self._wall = wall

    def collect(self, deadline: float) -> Iterator[Metric]:
        calls: list[Call] = []
        held = list(self._held(calls, deadline))
        yield Family.of(
            "inferops_ollama_up",
            "Whether Ollama answered GET /api/version, /api/ps and /api/tags.",
            all(call.error is None for call in calls),
        ).metric()
        yield from metrics(self._endpoints.families(calls))
        yield from metrics(held)
        # Our own counts, which hold while Ollama is silent as well.
        yield from metrics(exposition.coming_families(self._comings))
        bad = [str(c.error) for c in calls if isinstance(c.error, BadAnswerError)]
        if bad:
            raise PartialError("; ".join(bad))

    def _held(self, calls: list[Call], deadline: float) -> Iterator[Family]:
        ask = self._endpoints.ask
        # The cheapest first: a dead Ollama is known after one call. One that hangs
        # leaves the next its share of the time.
        version = ask(calls, Endpoint.VERSION, self._half(deadline), replies.version)
        if version is not None:
            yield from exposition.version_families(version)
        if isinstance(calls[-1].error, NoAnswerError):
            return
        resident = ask(calls, Endpoint.PS, self._half(deadline), replies.resident)
        present = ask(calls, Endpoint.TAGS, deadline, replies.present)
        if present is not None:
            yield from exposition.present_families(present)
        if resident is not None:
            wall = self._wall()
            yield from exposition.resident_families(resident, wall)
            self._comings.polled(resident, now=self._clock(), wall=wall)
        self._know(resident, present)

    def _know(
        self,
        resident: Mapping[str, Resident] | None,
        present: Mapping[str, Model] | None,
    ) -> None:
        self._comings.know([*(present or {}), *(resident or {})])
        if present is not None and resident is not None:
            self._comings.keep({*present, *resident})

    def _half(self, deadline: float) -> float:
        now = self._clock()
        return now + (deadline - now) / 2
