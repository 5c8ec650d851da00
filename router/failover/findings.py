"""What one request finds out about nodes, while it is tried on one after the other.

An answer whose words are not known is the node's fault until a second node of the same
build, one that answered well before, says the same: then it is the request's. Pure.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from router.errors import OtherBuildError
from router.model import Node
from router.snapshot import NodeView

__all__ = ["Aboard", "Build", "Finding", "Findings", "build_of"]

Build = tuple[str | None, str | None]  # the model's digest, Ollama's version


def build_of(view: NodeView, model: str) -> Build:
    """Name what answers there; None where a poll has not told."""
    found = (view.present or {}).get(model)
    return (found.digest if found else None), view.version


@dataclass(frozen=True, slots=True)
class Finding:
    """What one node said.

    unclear:  whether it may speak of the request
    credible: whether the node's last answer before was no failure
    """

    node: str
    build: Build
    text: str
    unclear: bool
    credible: bool

    @property
    def words(self) -> str:
        """The text without what differs from one time to the next: numbers, ids."""
        return _VARYING.sub("#", self.text.lower())


_VARYING = re.compile(r"\b0x[0-9a-f]+\b|[0-9a-f]{8,}|\d+(\.\d+)?")


@dataclass(frozen=True, slots=True)
class Aboard:
    """Where a request is tried: all that a trial in its place needs."""

    node: Node
    model: str
    path: str


@dataclass(slots=True)
class Findings:
    """One request's, over all of its attempts and the segments of its stream.

    body:   what it asks for
    deaths: runners that died under it without a word of answer; the first counts in
            any case
    suspect: whether it may end the next one, too; `went_back`: to where it ended one
    first:  where the first runner died without a word of answer
    died_on: where the last one died
    refused: builds that say that the request is wrong; `aside`: the first one's answer
    unreached: nodes to which it could not be sent at first
    """

    body: bytes = b""
    deaths: int = 0
    suspect: bool = False
    went_back: bool = False
    first: Aboard | None = None
    died_on: str = ""
    aside: OtherBuildError | None = None
    found: list[Finding] = field(default_factory=list)
    refused: set[Build] = field(default_factory=set)
    unreached: set[str] = field(default_factory=set)

    def died(self, node: str, *, answering: bool) -> None:
        """Count a runner's death; one that was `answering` is likely to be innocent."""
        self.suspect = self.deaths > 0 or not answering
        self.deaths = 1 if answering else self.deaths + 1
        self.died_on = node

    @property
    def agreed(self) -> bool:
        """Whether two credible nodes of one build blame the request in one way."""
        seen: set[tuple[Build, str]] = set()
        for each in self.found:
            if each.unclear and each.credible:
                key = (each.build, each.words)
                if key in seen:
                    return True
                seen.add(key)
        return False

    @property
    def unanimous(self) -> bool:
        """Whether all that were asked may blame the request, in the same words."""
        words = {each.words for each in self.found}
        return len(words) == 1 and all(each.unclear for each in self.found)
