"""The collectors, one file each; `exporters/registry.py` lists them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, runtime_checkable

from prometheus_client import Metric


class Collector(Protocol):
    """Reads one source into metric families made for this one scrape."""

    def collect(self, deadline: float) -> Iterable[Metric]:
        """Yield the families, before `deadline` on the monotonic clock.

        A value that the source does not have is no series. Any error withdraws
        what was yielded, but for PartialError, which keeps it.
        """


@runtime_checkable
class Background(Protocol):
    """A collector that works between scrapes too, on threads of its own."""

    def start(self) -> None:
        """Begin, before the first scrape; once."""
