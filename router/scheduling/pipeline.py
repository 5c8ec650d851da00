"""Filter → score → pick, over one snapshot; pure but for the counts it reads.

A filter answers with nothing, or with the reason why a node is not taken: the
body of a 503 and `/admin/explain` repeat these reasons.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from router.capacity.throughput import SHARE_COST
from router.model import Hold
from router.snapshot import LoadView, NodeView, Snapshot

BUSY = "busy"


@dataclass(frozen=True, slots=True)
class Wish:
    """What a request wants of a node: its model, and not those tried already."""

    model: str  # canonical
    tried: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Scene:
    """What a decision looks at, taken once."""

    snapshot: Snapshot
    blocking: Callable[[str], tuple[Hold, ...]]
    load: LoadView


class Candidate(NamedTuple):  # made for each node of each decision: a tuple is quick
    """A node that may take the request now.

    in_flight: streams that run there, as far as is known or suspected
    expected_seconds: until the reply is whole, were it sent there now
    """

    view: NodeView
    in_flight: int
    expected_seconds: float

    @property
    def name(self) -> str:
        return self.view.node.name


@dataclass(frozen=True, slots=True)
class Decision:
    """Who was taken and why; `rejected` holds a reason for every other node."""

    picked: Candidate | None
    candidates: tuple[Candidate, ...]
    rejected: Mapping[str, str]

    @property
    def busy(self) -> bool:
        """Whether some node could take the request but for its slots."""
        return BUSY in self.rejected.values()


Filter = Callable[[NodeView, Wish, Scene], str | None]
Picker = Callable[[Sequence[Candidate]], Candidate]


def already_tried(view: NodeView, wish: Wish, _: Scene) -> str | None:
    return "tried already" if view.node.name in wish.tried else None


def held(view: NodeView, _: Wish, scene: Scene) -> str | None:
    holds = scene.blocking(view.node.name)
    return "; ".join(f"{h.kind}: {h.reason}" for h in holds) if holds else None


def model_absent(view: NodeView, wish: Wish, _: Scene) -> str | None:
    """A node that was never polled may have it: it will say so itself."""
    if view.present is None or wish.model in view.present:
        return None
    return f"model {wish.model!r} not found"


FILTERS: tuple[Filter, ...] = (held, model_absent, already_tried)
_FIRST_TRY = tuple(f for f in FILTERS if f is not already_tried)


def decide(wish: Wish, scene: Scene, picker: Picker) -> Decision:
    """Choose a node for the wish, with reasons.

    A free slot is asked for last, so that `busy` means: but for this it would do.
    """
    rejected: dict[str, str] = {}
    open_nodes: list[tuple[NodeView, int]] = []
    room = scene.load.room
    filters = FILTERS if wish.tried else _FIRST_TRY
    for name, view in scene.snapshot.nodes.items():
        for reject in filters:
            reason = reject(view, wish, scene)
            if reason:
                rejected[name] = reason
                break
        else:
            streams = room(name, wish.model)
            if streams is None:
                rejected[name] = BUSY
            else:
                open_nodes.append((view, streams))
    candidates = weigh(open_nodes, wish, scene.load)
    picked = picker(candidates) if candidates else None
    return Decision(picked, tuple(candidates), rejected)


_EXPECTED_TOKENS = 211  # mean answer of the Azure conversation trace
_REFERENCE_SPEED = 100.0  # tokens/s of a node that scores 1, until one is measured
_LEAST_SCORE = 0.01
# Loading a model: its size at disk speed, and the engine's start.
_LOAD_BYTES_PER_SECOND = 1e9
_LOAD_START_SECONDS = 1.5
# A node that was never polled may not be there: any that has the model comes first.
_UNKNOWN_SECONDS = 60.0
_SPILL_COST = 5.0  # a model that does not fit the GPU runs on the CPU in part


def weigh(
    open_nodes: Sequence[tuple[NodeView, int]], wish: Wish, load: LoadView
) -> list[Candidate]:
    """Estimate for each node when the reply would be whole.

    Measured speed overrules the score; the score stands in for what was not
    measured yet, in the proportion that the measured nodes show.
    """
    model = wish.model
    speeds = [load.speed(v.node.name, model, n + 1) for v, n in open_nodes]
    per_score = None
    result = []
    for (view, streams), known in zip(open_nodes, speeds, strict=True):
        speed = known
        if speed is None:
            if per_score is None:
                per_score = _per_score(open_nodes, model, load)
            score = max(view.score.value, _LEAST_SCORE)
            speed = per_score * score / (1 + SHARE_COST * streams)
        seconds = _EXPECTED_TOKENS / speed
        if view.resident is None or model not in view.resident:
            seconds += _load_seconds(view, wish, seconds)
        result.append(Candidate(view, streams, seconds))
    return result


def _per_score(
    open_nodes: Sequence[tuple[NodeView, int]], model: str, load: LoadView
) -> float:
    """Return tokens/s of one stream for a score of 1, as the measured nodes have it."""
    ratios = [
        alone / max(view.score.value, _LEAST_SCORE)
        for view, _ in open_nodes
        if (alone := load.speed(view.node.name, model))
    ]
    return sum(ratios) / len(ratios) if ratios else _REFERENCE_SPEED


def _load_seconds(view: NodeView, wish: Wish, reply_seconds: float) -> float:
    """Return what loading the model costs on this node beside the reply itself."""
    if view.present is None or wish.model not in view.present:
        return _UNKNOWN_SECONDS
    size = view.present[wish.model].size_bytes
    vram = view.node.attributes.get("vram_bytes")
    spill = _SPILL_COST * reply_seconds if vram and size > vram else 0.0
    return _LOAD_START_SECONDS + size / _LOAD_BYTES_PER_SECOND + spill
