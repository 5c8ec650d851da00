"""What a request wants of a node, and what is known and expected of its work; pure.

A request's prompt is known in bytes, never in tokens: no tokenizer runs on the hot
path. How many tokens a byte is, and how long answers are, is learned from replies.
"""

from __future__ import annotations

from collections.abc import Collection
from math import inf
from typing import NamedTuple, Protocol

from router.text.prompt_prefixes import NO_PREFIXES, PromptPrefixes

FIRST_GUESS = 256.0  # tokens of an answer of which nothing is known


class Traits(NamedTuple):
    """What a request's body says of its work.

    prompt_bytes: of the text that is read; 0 where it is not known
    most_tokens:  the request's own limit of its answer
    shape:        what binds the answer's form: `tools`, `format`, or nothing
    options:      those with which Ollama loads a model, where the request names some
    """

    prompt_bytes: int = 0
    most_tokens: int | None = None
    shape: str = ""
    options: str = ""


UNKNOWN = Traits()


class RoutingRequest(NamedTuple):
    """What a request wants of a node: its model, and not those tried already.

    spared: nodes whose streams it might end, or that would refuse it, where another
            node will do
    first_token_by: when its first token is worthless, on the router's clock
    principal: who sends it: the queue is shared fairly between principals
    session: what its conversation is told by, for the policy that keeps to a node
    picker: the policy that it asks for; empty: its model's
    prefixes: how its prompt begins
    """

    model: str  # canonical
    tried: frozenset[str] = frozenset()
    spared: frozenset[str] = frozenset()
    traits: Traits = UNKNOWN
    first_token_by: float = inf
    principal: str = ""
    session: str = ""
    picker: str = ""
    prefixes: PromptPrefixes = NO_PREFIXES

    @property
    def avoided(self) -> frozenset[str]:
        """Name the nodes that it is not to go to."""
        return self.tried | self.spared if self.spared else self.tried

    @property
    def runner(self) -> str:
        """Name what has to be in memory: the model, as it is to be loaded."""
        options = self.traits.options
        return f"{self.model}\n{options}" if options else self.model


class Work(NamedTuple):
    """What a request is expected to cost a node.

    prompt:  tokens to read
    tokens:  mean of the answers of such requests
    squares: mean of their squares: what their tail weighs
    saved:   of the prompt's tokens, those that a node is expected to have read before
    """

    prompt: float = 0.0
    tokens: float = FIRST_GUESS
    squares: float = 2.0 * FIRST_GUESS * FIRST_GUESS
    saved: float = 0.0

    @property
    def unread(self) -> float:
        return self.prompt - self.saved


class Reused(NamedTuple):
    """What of a prompt may be in a node's cache.

    share:   of its text, that the node has read
    between: requests that the node has got since
    chance:  that it is still there
    """

    share: float
    between: int
    chance: float

    @property
    def expected(self) -> float:
        return self.share * self.chance


class Reuse(Protocol):
    """What nodes have read (`router.scheduling.prompt_caches.PromptReuse`)."""

    @property
    def nodes(self) -> Collection[str]: ...

    def at(self, node: str) -> Reused | None: ...

    def on(self, node: str, work: Work) -> Work: ...


class PendingRequest(NamedTuple):
    """A request that wants a slot now, or that waits for one.

    since:   when it came
    in_time: seconds from then in which its first token has to be there
    held:    whether it may be held back from a node that is free
    picker:  the name of the policy that chooses for it
    left:    nodes that its principal leaves to others now
    reuse:   which nodes have read some of its prompt; None: none has
    """

    routing: RoutingRequest
    work: Work = Work()
    since: float = 0.0
    in_time: float = inf
    held: bool = True
    picker: str = ""
    left: frozenset[str] = frozenset()
    reuse: Reuse | None = None

    @property
    def avoided(self) -> frozenset[str]:
        """Name the nodes that it does not go to now."""
        return self.routing.avoided | self.left if self.left else self.routing.avoided

    def on(self, node: str) -> Work:
        """Return its work on a node."""
        return self.work if self.reuse is None else self.reuse.on(node, self.work)
