"""Filter → score → pick, over one snapshot; pure but for the counts it reads.

A filter answers with nothing, or with the reason why a node is not taken: the
body of a 503 and `/admin/explain` repeat these reasons.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

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


@dataclass(frozen=True, slots=True)
class Candidate:
    """A node that may take the request now.

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


def no_free_slot(view: NodeView, _: Wish, scene: Scene) -> str | None:
    """Last of all, so that `busy` means: but for this one it would do."""
    name = view.node.name
    return BUSY if scene.load.in_flight(name) >= scene.load.slots(name) else None


FILTERS: tuple[Filter, ...] = (already_tried, held, model_absent, no_free_slot)


def decide(wish: Wish, scene: Scene, picker: Picker) -> Decision:
    """Choose a node for the wish, with reasons."""
    rejected: dict[str, str] = {}
    views: list[NodeView] = []
    for name, view in scene.snapshot.nodes.items():
        reason = next((r for f in FILTERS if (r := f(view, wish, scene))), None)
        if reason:
            rejected[name] = reason
        else:
            views.append(view)
    candidates = _weigh(views, wish, scene)
    picked = picker(candidates) if candidates else None
    return Decision(picked, tuple(candidates), rejected)


_EXPECTED_TOKENS = 211  # mean answer of the Azure conversation trace
_REFERENCE_SPEED = 100.0  # tokens/s of a node that scores 1, until one is measured
_LEAST_SCORE = 0.01
# A stream beside k others on a real Ollama runs at about 1 / (1 + 0.67 k) of its
# speed (H200, two streams 0.6 each, four 0.3): decoding together hardly pays.
_SHARE_COST = 0.67
# Loading a model: its size at disk speed, and the engine's start.
_LOAD_BYTES_PER_SECOND = 1e9
_LOAD_START_SECONDS = 1.5
_SPILL_COST = 5.0  # a model that does not fit the GPU runs on the CPU in part


def _weigh(views: Sequence[NodeView], wish: Wish, scene: Scene) -> list[Candidate]:
    """Estimate for each node when the reply would be whole.

    Measured speed overrules the score; the score stands in for what was not
    measured yet, in the proportion that the measured nodes show.
    """
    load = scene.load
    known = {v.node.name: load.speed(v.node.name, wish.model) for v in views}
    ratios = [
        s / max(v.score.value, _LEAST_SCORE) for v in views if (s := known[v.node.name])
    ]
    per_score = sum(ratios) / len(ratios) if ratios else _REFERENCE_SPEED
    result = []
    for view in views:
        in_flight = load.in_flight(view.node.name)
        speed = known[view.node.name] or per_score * max(view.score.value, _LEAST_SCORE)
        seconds = _EXPECTED_TOKENS * (1 + _SHARE_COST * in_flight) / speed
        result.append(
            Candidate(view, in_flight, seconds + _load_seconds(view, wish, seconds))
        )
    return result


def _load_seconds(view: NodeView, wish: Wish, reply_seconds: float) -> float:
    """Return what the model costs on this node beside the reply itself."""
    if view.resident is not None and wish.model in view.resident:
        return 0.0
    if view.present is None or wish.model not in view.present:
        return _LOAD_START_SECONDS
    size = view.present[wish.model].size_bytes
    vram = view.node.attributes.get("vram_bytes")
    spill = _SPILL_COST * reply_seconds if vram and size > vram else 0.0
    return _LOAD_START_SECONDS + size / _LOAD_BYTES_PER_SECOND + spill
