"""What a build of a model refuses although another build of it does it.

An older template that knows no tools, an older Ollama without a field: once the other
build has answered, requests of that kind spare the one that refuses. Kinds are told by
the fields that builds differ in; bodies are not kept. Pure but for the clock.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Iterable

from router.failover.findings import Build

__all__ = ["Refusals"]

_REMEMBERED_SECONDS = 600.0
_MOST_REMEMBERED = 1024
_FIELDS = re.compile(
    rb'"(tools|think|format|images|image_url|input_image|input_audio|suffix'
    rb"|dimensions|reasoning|reasoning_effort|response_format|json_schema"
    rb'|logprobs|top_logprobs|_debug_render_only)"\s*:'
)

_Key = tuple[str, frozenset[bytes], Build]


class Refusals:
    """The newest of them."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._until: OrderedDict[_Key, float] = OrderedDict()

    def learn(self, model: str, body: bytes, builds: Iterable[Build]) -> None:
        """Remember builds that refused what another has answered."""
        kind, until = _kind(body), self._clock() + _REMEMBERED_SECONDS
        for build in builds:
            key = model, kind, build
            self._until.pop(key, None)
            self._until[key] = until
        while len(self._until) > _MOST_REMEMBERED:
            self._until.popitem(last=False)

    def of(self, model: str, body: bytes) -> frozenset[Build]:
        """Name the builds that would refuse it, by what they refused before."""
        known = [key for key in self._until if key[0] == model]
        if not known:
            return frozenset()
        kind, now = _kind(body), self._clock()
        return frozenset(
            key[2] for key in known if key[1] == kind and self._until[key] > now
        )


def _kind(body: bytes) -> frozenset[bytes]:
    return frozenset(found[1] for found in _FIELDS.finditer(body))
