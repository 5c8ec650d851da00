"""What requests would feel on a fleet by one policy or another; no node is asked.

    inferops simulate azure.csv --fleet nodes.yml --policy shortest_completion

The router's own failover, scheduler, queue, policies, ledger and learned speeds in
virtual time, before simulated nodes. The first fifth of the requests is not counted:
speeds are learned in it. TRACE is a CSV file with TIMESTAMP, ContextTokens and
GeneratedTokens, or a made-up shape of traffic.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from math import inf
from pathlib import Path
from typing import Any

from router.pickers import DEFAULT, PICKERS
from simulator.inventory import InventoryError
from simulator.virtual.clock import Clock
from simulator.virtual.figures import Figures
from simulator.virtual.fleet import read_fleet
from simulator.virtual.node import Scaling, Spec
from simulator.virtual.oracle import Oracle
from simulator.virtual.peers import PEERS, run_peer
from simulator.virtual.routed import Routed, Setup
from simulator.virtual.traffic import SHAPES, Traffic
from simulator.virtual.workload import Ask

ORACLE = "oracle"
_PEERS = {f"node-queues:{name.replace(' ', '_')}": name for name in PEERS}
POLICIES = (*PICKERS, ORACLE, *_PEERS)
_WARM_UP = 0.2  # of the requests
_HEAD = ("policy", "p50 s", "p95 s", "p99 s", "first p50 s", "p99 s", "good", "failed")
_USAGE = 2


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked: which requests, on which nodes."""

    specs: Sequence[Spec]
    scaling: Scaling
    asks: Sequence[Ask]
    seed: int
    first_token_seconds: float = inf

    def answer(self, policy: str) -> Figures:
        if policy in _PEERS:
            peer = _PEERS[policy]
            replies = run_peer(peer, self.specs, self.scaling, self.asks, self.seed)
        elif policy == ORACLE:
            replies = Oracle(Setup(self.specs, self.scaling), Clock()).run(self.asks)
        else:
            setup = Setup(
                self.specs,
                self.scaling,
                policy,
                first_token_seconds=self.first_token_seconds,
            )
            replies = Routed(setup, Clock()).run(self.asks)
        since = self.asks[int(_WARM_UP * len(self.asks))].at
        return Figures.of([each for each in replies if each.ask.at >= since])


def ask(args: argparse.Namespace) -> tuple[Question, dict[str, Any]]:
    """Read what is named; raises InventoryError, OSError, ValueError, KeyError."""
    specs, guessed = read_fleet(args.fleet)
    traffic = Traffic.of(args.trace)
    most = traffic.saturation(specs, args.scaling)
    rate = args.rate or (args.load * most if args.load else traffic.rate)
    asks = traffic.draw(rate, args.requests, args.seed)
    facts: dict[str, Any] = {
        "trace": args.trace,
        "nodes": len(specs),
        "scaling": args.scaling,
        "requests_per_second": round(rate, 3),
        "load": round(rate / most, 3),
        "requests": len(asks),
        "speeds_guessed": guessed,
    }
    question = Question(specs, args.scaling, asks, args.seed, args.first_token)
    return question, facts


def show(facts: dict[str, Any], found: dict[str, Figures]) -> list[str]:
    lines = ["simulated: no request was sent"]
    guessed = facts["speeds_guessed"]
    known = {name: value for name, value in facts.items() if value is not guessed}
    lines += [f"{name.replace('_', ' ')}: {value}" for name, value in known.items()]
    if guessed:
        lines.append(f"speeds guessed by TFLOPS: {', '.join(guessed)}")
    lines.append("  ".join((f"{_HEAD[0]:<38}", *(f"{each:>11}" for each in _HEAD[1:]))))
    for policy, each in found.items():
        cells = (each.p50, each.p95, each.p99, each.first_p50, each.first_p99)
        row = [f"{policy:<38}", *(f"{cell:>11.2f}" for cell in cells)]
        row += [f"{each.good:>11.3f}", f"{each.failed:>11.3f}"]
        lines.append("  ".join(row))
    lines.append("good: first token within 2 s, then at least 10 tokens a second")
    return lines


def _number(text: str) -> float:
    value = float(text)
    if not 0 < value < 1e6:
        raise argparse.ArgumentTypeError(f"must be over 0, got {text!r}")
    return value


def _count(text: str) -> int:
    value = int(text)
    if not 10 <= value <= 1_000_000:
        raise argparse.ArgumentTypeError(f"must be 10 to 1000000, got {text!r}")
    return value


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "inferops simulate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add: Callable[..., object] = parser.add_argument
    add("trace", help=f"CSV file, or {', '.join(SHAPES)}")
    add("--fleet", type=Path, required=True, help="inventory (nodes.yml)")
    add(
        "--policy",
        action="append",
        choices=POLICIES,
        help=f"repeatable; default: {DEFAULT}. `node-queues:…` choose when the"
        " request comes and wait in the node's own queue, as nginx does",
    )
    add("--load", type=_number, help="share of what the fleet does at most")
    add("--rate", type=_number, help="requests a second; default: the trace's own")
    add(
        "--scaling",
        type=Scaling,
        choices=list(Scaling),
        default=Scaling.H200,
        help="how streams on one node slow each other",
    )
    add("--requests", type=_count, default=4000)
    add("--seed", type=int, default=1, help="where in the trace to begin")
    add(
        "--first-token",
        type=_number,
        default=inf,
        metavar="SECONDS",
        help="the router refuses what cannot begin in time (X-First-Token-Timeout)",
    )
    add("--json", action="store_true")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    args = _arguments(argv)
    try:
        question, facts = ask(args)
    except (InventoryError, OSError, ValueError, KeyError) as error:
        sys.stderr.write(f"inferops simulate: {error}\n")
        return _USAGE
    found = {each: question.answer(each) for each in args.policy or [DEFAULT]}
    if args.json:
        report = {**facts, "policies": {k: asdict(v) for k, v in found.items()}}
        sys.stdout.write(json.dumps(report) + "\n")
    else:
        sys.stdout.write("\n".join(show(facts, found)) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
