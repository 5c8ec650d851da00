"""Which nodes have the same build of a model, and which builds refuse what.

A build is the model's digest and Ollama's version.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection

import orjson

from router.failover.findings import Build, build_of
from router.failover.refusals import Refusals
from router.model import Node
from router.snapshot import Published

__all__ = ["Builds", "with_note"]

_DIGEST_SHOWN = 12


class Builds:
    """Reads the snapshot; `refusals`: what builds have refused."""

    def __init__(
        self, published: Published, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._published = published
        self.refusals = Refusals(clock)

    def of(self, node: str, model: str) -> Build:
        view = self._published.current.nodes.get(node)
        return build_of(view, model) if view else (None, None)

    def node(self, name: str) -> Node | None:
        view = self._published.current.nodes.get(name)
        return view.node if view else None

    def nodes(self, builds: Collection[Build], model: str) -> frozenset[str]:
        """Name the nodes that have one of these builds."""
        views = self._published.current.nodes
        return frozenset(n for n, v in views.items() if build_of(v, model) in builds)

    def refusing(self, model: str, body: bytes) -> frozenset[str]:
        """Name the nodes whose build would refuse such a request."""
        builds = self.refusals.of(model, body)
        return self.nodes(builds, model) if builds else frozenset()

    def note(self, model: str) -> str:
        """Say which builds of a model the fleet has; empty where it is one."""
        found: dict[Build, list[str]] = {}
        for name, view in self._published.current.nodes.items():
            if view.present and model in view.present:
                found.setdefault(build_of(view, model), []).append(name)
        if len(found) < 2:
            return ""
        reported = "; ".join(f"{_named(b)} on {', '.join(n)}" for b, n in found.items())
        return f"the fleet has {len(found)} builds of {model}: {reported}"


def _named(build: Build) -> str:
    digest, version = build
    short = (digest or "unknown").removeprefix("sha256:")[:_DIGEST_SHOWN]
    return f"{short} (Ollama {version or 'unknown'})"


def with_note(body: bytes, note: str) -> bytes:
    """Add a note to the text of an error, in any of the dialects."""
    try:
        fields = orjson.loads(body)
        error = fields["error"]
        if isinstance(error, str):
            fields["error"] = f"{error} ({note})"
        else:
            error["message"] = f"{error['message']} ({note})"
    except (orjson.JSONDecodeError, LookupError, TypeError):
        return body
    return orjson.dumps(fields)
