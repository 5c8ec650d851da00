"""Requests that end the runner, or the whole server, that they are sent to.

A death speaks of the request as much as of the node. What was on a runner when it died
is suspect; a suspect that ends a second runner, on a node that goes on to generate
for others, is refused for a while. Bodies are remembered by their digest only; pure
but for the clock.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, replace

import orjson

from router.model import Cause
from router.runtime.recent import Recent

_REMEMBERED_SECONDS = 600.0
_MOST_REMEMBERED = 1024
_PARSED_BYTES = 1024 * 1024
# What says nothing of what a node computes; clients repeat with another value.
_IMMATERIAL = ("stream", "stream_options", "keep_alive", "user", "metadata")

_DEATHS = frozenset({Cause.RUNNER_DIED, Cause.RESET})
_LOAD_DEATHS = frozenset({Cause.LOAD_FAILED, Cause.GPU_ERROR, Cause.OUT_OF_MEMORY})
# Options that a runner is started with: only those can make a load fail.
_LOAD_OPTION = re.compile(
    rb'"(?:num_ctx|num_batch|num_gpu|num_thread|main_gpu|use_mmap|numa)"'
)


def may_end_runners(cause: str, body: bytes) -> bool:
    """Say whether a failed attempt may be a death that the request brought about."""
    if cause in _DEATHS:
        return True
    return cause in _LOAD_DEATHS and _LOAD_OPTION.search(body) is not None


def digest_of(body: bytes) -> bytes:
    """Digest what a body asks for, however it is spelled; of a large one, as it is."""
    if len(body) > _PARSED_BYTES:  # dense JSON takes fifty times its size when parsed
        return hashlib.sha256(body).digest()
    try:
        fields = orjson.loads(body)
        for name in _IMMATERIAL:
            fields.pop(name, None)
        body = orjson.dumps(fields, option=orjson.OPT_SORT_KEYS)
    except (orjson.JSONDecodeError, AttributeError, TypeError):
        pass  # a form, or what only Go's reader takes: as it came
    return hashlib.sha256(body).digest()


@dataclass(frozen=True, slots=True)
class Record:
    """What is known of one body: runners that died under it, and the verdict."""

    at: float
    deaths: int = 0
    verdict: str = ""


class Offenders:
    """The newest bodies that ended runners; false while there are none."""

    def __init__(
        self,
        clock: Callable[[], float],
        seconds: float = _REMEMBERED_SECONDS,
        most: int = _MOST_REMEMBERED,
    ) -> None:
        self._clock = clock
        self._seconds = seconds
        self._records: Recent[bytes, Record] = Recent(most)

    def __len__(self) -> int:
        return len(self._records)

    def find(self, digest: bytes) -> Record:
        """Return what is remembered; an empty record where that is nothing."""
        now = self._clock()
        record = self._records.get(digest)
        if record is not None and now - record.at > self._seconds:
            del self._records[digest]
            record = None
        return record or Record(now)

    def died(self, digest: bytes, deaths: int) -> None:
        """Remember a request that ended without an answer after so many deaths."""
        known = self.find(digest)
        self._put(digest, replace(known, deaths=max(deaths, known.deaths)))

    def convict(self, digest: bytes, why: str) -> None:
        """Refuse this body from now on, for a while."""
        self._put(digest, replace(self.find(digest), verdict=why))

    def clear(self, digest: bytes) -> None:
        """Forget a body: it was answered."""
        self._records.pop(digest, None)

    def _put(self, digest: bytes, record: Record) -> None:
        self._records[digest] = replace(record, at=self._clock())
