"""Time one routing decision on fleets of 8 and 64 nodes: `python -m bench.decide`."""

from __future__ import annotations

from timeit import repeat

from router.dispatch.ledger import Ledger
from router.dispatch.pickers import soonest
from router.dispatch.pipeline import Scene, Wish, decide
from router.dispatch.stream import Timings
from router.model import Node, Outcome, Score
from router.snapshot import NodeView, PresentModel, ResidentModel, Snapshot

_MODEL = "m:latest"
_GOALS = {8: 20, 64: 60}  # microseconds
_CALLS = 300


def scene(nodes: int) -> Scene:
    """Build a fleet that is well known and half busy."""
    views = {}
    for n in range(nodes):
        node = Node(f"node-{n}", f"http://node-{n}:11434", slots=4)
        views[node.name] = NodeView(
            node,
            Score(0.2 + n / 100),
            present={_MODEL: PresentModel(_MODEL, "d", 1)},
            resident={_MODEL: ResidentModel(_MODEL, "d", 1, 1)},
        )
    now = [0.0]
    ledger = Ledger(1, lambda: now[0])
    ledger.configure(view.node for view in views.values())
    timings = Timings(generated_tokens=100, generate_seconds=1.0, prompt_seconds=0.1)
    for name in views:
        for _ in range(10):
            lease = ledger.take(name, _MODEL)
            now[0] += 1.2
            lease.done(Outcome.END, timings)
        ledger.take(name, _MODEL)
        ledger.take(name, _MODEL)
    return Scene(Snapshot(views, made_at=0.0), lambda _: (), ledger)


def main() -> None:
    wish = Wish(_MODEL)
    for nodes, goal in _GOALS.items():
        seen = scene(nodes)
        best = min(
            repeat(lambda s=seen: decide(wish, s, soonest), number=_CALLS, repeat=9)
        )
        print(f"{nodes} nodes: {best / _CALLS * 1e6:.1f} us a decision, goal {goal}")


if __name__ == "__main__":
    main()
