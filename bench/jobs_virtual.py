"""How long jobs take beside the bound, and what people feel of them; virtual time.

The decisions are the router's own code: policy, predictor, ledger, learned speeds
and, for people, dispatcher and picker. Nodes and time are simulated
(`bench/virtual`). Nothing is known of a node at the start of a run.

    python -m bench.jobs_virtual --items-trace sharegpt.csv --people-trace azure.csv
    python -m bench.jobs_virtual makespan --sizes 200 1000 --scalings measured
    python -m bench.jobs_virtual beside --seconds 900
    python -m bench.jobs_virtual tree
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.figures import table
from bench.stage import machine
from bench.virtual.beside import Beside, Outcome, Way
from bench.virtual.bounds import bound, rate, reachable
from bench.virtual.runner import makespan
from bench.virtual.tree import TreeJob, When
from bench.virtual.workload import CPU, MIXED_8, Items, People, mean_tokens
from simulator.virtual.figures import quantile
from simulator.virtual.node import Scaling, Spec
from simulator.virtual.saturation import anonymous
from simulator.virtual.workload import Ask

FLEETS = {"mixed-8": MIXED_8, "mixed-8 + CPU": (*MIXED_8, CPU)}
GOALS = {200: 1.15, 1000: 1.03, 5000: 1.01}

_SAMPLE = 1500  # requests that a node's rate is measured with
_ROWS, _THRESHOLD = 500, 8
_ENDLESS = 30_000  # items: more than any run gets done


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run."""

    items: Items
    people: People
    sizes: Sequence[int]
    scalings: Sequence[Scaling]
    seeds: int
    seconds: float
    load: float


def makespans(plan: Plan) -> list[dict]:
    """Run each size on each fleet; ratios to the bound, a value for each seed."""
    rows = []
    for scaling in plan.scalings:
        for fleet, specs in FLEETS.items():
            for size in plan.sizes:
                runs = [_job(plan, specs, scaling, size, s) for s in range(plan.seeds)]
                figures = {key: [run[key] for run in runs] for key in runs[0]}
                rows.append(
                    {"scaling": scaling, "fleet": fleet, "items": size, **figures}
                )
    return rows


def _job(
    plan: Plan, specs: Sequence[Spec], scaling: Scaling, size: int, seed: int
) -> dict[str, float]:
    asks = plan.items.draw(size, seed)
    least = bound(specs, scaling, asks)
    seconds, tally = makespan(specs, scaling, asks)
    return {
        "ratio": seconds / least,
        "seconds": seconds,
        "wasted": tally.wasted / tally.tokens,
        "copies": tally.copies,
    }


def beside(plan: Plan) -> list[dict]:
    """Run people with and without a job, in each way of giving way."""
    rows: list[dict[str, Any]] = []
    for scaling in plan.scalings:
        for way in Way:
            runs = [_day(plan, scaling, way, seed) for seed in range(plan.seeds)]
            rows.append({"scaling": scaling, "way": way, "runs": runs})
        without = next(row for row in rows if row["scaling"] is scaling)["runs"]
        for row in rows:
            if row["scaling"] is scaling:
                _compare(row, without)
    return rows


def _day(plan: Plan, scaling: Scaling, way: Way, seed: int) -> dict[str, float]:
    """One run of one way; the same people for every way of a seed."""
    people = tuple(plan.people.draw(600, 5.0, 0)[:_SAMPLE])
    capacity = sum(rate(anonymous(spec), scaling, people) for spec in MIXED_8)
    asks = plan.people.draw(plan.seconds, plan.load * capacity, seed)
    items = plan.items.draw(_ENDLESS, seed)
    outcome = Beside(MIXED_8, scaling, way, items).run(asks, plan.seconds)
    worth = _worth(scaling, items)
    seconds = plan.seconds
    return {
        "p50": quantile(sorted(outcome.replies), 0.5),
        "p99": quantile(sorted(outcome.replies), 0.99),
        "first_token_p99": quantile(sorted(outcome.first_tokens), 0.99),
        "tokens": outcome.job.tokens,
        "wasted": outcome.job.wasted / max(1.0, outcome.job.tokens),
        "revoked": outcome.job.revoked,
        "apart": _weighed(outcome.idle, worth),
        "reachable": _reachable(scaling, items, outcome),
        "reread": outcome.job.reread / max(1.0, outcome.job.tokens),
        "unused": (1 - plan.load) * seconds * sum(worth.values()),
        "busy": _weighed(outcome.job.busy, worth),
        "answered": len(outcome.replies),
        "asked": _asked(asks, outcome),
    }


def _asked(asks: Sequence[Ask], outcome: Outcome) -> int:
    return sum(ask.at < outcome.seconds for ask in asks)


def _worth(scaling: Scaling, items: Sequence[Ask]) -> dict[str, float]:
    """Return the items' tokens/s that each node brings when it has nothing else."""
    some = tuple(items[:_SAMPLE])
    tokens = mean_tokens(some)
    return {
        spec.name: tokens * rate(anonymous(spec), scaling, some) for spec in MIXED_8
    }


def _reachable(scaling: Scaling, items: Sequence[Ask], outcome: Outcome) -> float:
    """Return the tokens that fit into the gaps, where prompts are read in each."""
    some = tuple(items[:_SAMPLE])
    return mean_tokens(some) * sum(
        reachable(outcome.gaps[spec.name], anonymous(spec), scaling, some)
        for spec in MIXED_8
    )


def _weighed(seconds: dict[str, float], worth: dict[str, float]) -> float:
    return sum(spent * worth[node] for node, spent in seconds.items())


def _compare(row: dict, without: list[dict]) -> None:
    """Set a way beside people alone: what they feel, and what of the idle was used.

    apart:  done, of what nodes could have done while no person was there
    unused: done, of all that people did not use, were a node's streams free of
            each other
    held:   the first, by time instead of by what came of it
    fits:   what could be done, of the first, were prompts read in each gap again
    """
    pairs = list(zip(row["runs"], without, strict=True))
    row["p99"] = [run["p99"] for run in row["runs"]]
    row["p50_ratio"] = [run["p50"] / off["p50"] for run, off in pairs]
    row["p99_ratio"] = [run["p99"] / off["p99"] for run, off in pairs]
    row["apart"] = [run["tokens"] / off["apart"] for run, off in pairs]
    row["unused"] = [run["tokens"] / off["unused"] for run, off in pairs]
    row["held"] = [run["busy"] / off["apart"] for run, off in pairs]
    row["wasted"] = [run["wasted"] for run in row["runs"]]
    row["reread"] = [run["reread"] for run in row["runs"]]
    row["fits"] = [off["reachable"] / off["apart"] for off in without]


def trees(plan: Plan) -> list[dict]:
    """Merge while rows are made, and after; the same rows and answers for a seed."""
    rows = []
    for scaling in plan.scalings:
        seconds: dict[str, list[float]] = {when: [] for when in When}
        first: list[int] = []
        for seed in range(plan.seeds):
            asks = plan.items.draw(_ROWS, seed)
            lengths = [ask.tokens for ask in plan.items.draw(_ROWS, seed + 1000)]
            for when in When:
                job = TreeJob(
                    MIXED_8, scaling, asks, lengths, threshold=_THRESHOLD, when=when
                )
                done = job.run()
                seconds[when].append(done.seconds)
                if when is When.AT_ONCE:
                    first.append(done.first_at)
        rows.append({"scaling": scaling, "seconds": seconds, "first_at": first})
    return rows


def show_trees(rows: Sequence[dict]) -> list[str]:
    head = ["tree of 500, by 8", *(f"{when} s" for when in When)]
    head += ["of by groups", "of one by one", "rows done at the first text"]
    return table(head, [_tree_row(row) for row in rows])


def _tree_row(row: dict) -> list[str]:
    seconds = {when: statistics.mean(row["seconds"][when]) for when in When}
    first = row["first_at"]
    return [
        row["scaling"],
        *(f"{seconds[when]:.0f}" for when in When),
        f"{seconds[When.AT_ONCE] / seconds[When.AFTER]:.3f}",
        f"{seconds[When.AT_ONCE] / seconds[When.IN_TURN]:.3f}",
        f"{statistics.mean(first):.0f} ({min(first)} to {max(first)})",
    ]


def show_makespans(rows: Sequence[dict]) -> list[str]:
    head = ["makespan / LBsat", "fleet", "items", "mean", "least to most", "goal", ""]
    head += ["wasted %", "copies"]
    return table(head, [_makespan_row(row) for row in rows])


def _makespan_row(row: dict) -> list[str]:
    ratios = row["ratio"]
    mean, goal = statistics.mean(ratios), GOALS.get(row["items"])
    wasted = 100 * statistics.mean(row["wasted"])
    return [
        row["scaling"],
        row["fleet"],
        str(row["items"]),
        f"{mean:.3f}",
        f"{min(ratios):.3f} to {max(ratios):.3f}",
        f"{goal:.2f}" if goal else "",
        "" if goal is None else ("met" if mean <= goal else "missed"),
        f"{wasted:.2f}",
        f"{statistics.mean(row['copies']):.1f}",
    ]


def show_beside(rows: Sequence[dict]) -> list[str]:
    head = ["people beside a job", "way", "p99 s", "p99 / alone", "least to most"]
    head += ["p50 / alone", "job / apart", "fits", "job / unused", "time / apart"]
    head += ["wasted %", "read again"]
    return table(head, [_beside_row(row) for row in rows])


def _beside_row(row: dict) -> list[str]:
    ratios = row["p99_ratio"]
    mean = statistics.mean
    return [
        row["scaling"],
        row["way"],
        f"{mean(row['p99']):.1f}",
        f"{mean(ratios):.3f}",
        f"{min(ratios):.2f} to {max(ratios):.2f}",
        f"{mean(row['p50_ratio']):.2f}",
        f"{mean(row['apart']):.2f}",
        f"{mean(row['fits']):.2f}",
        f"{mean(row['unused']):.2f}",
        f"{mean(row['held']):.2f}",
        f"{100 * mean(row['wasted']):.0f}",
        f"{mean(row['reread']):.0f}",
    ]


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parts = ["makespan", "beside", "tree"]
    parser.add_argument("parts", nargs="*", default=parts, help=", ".join(parts))
    parser.add_argument("--items-trace", type=Path, help="ShareGPT lengths, CSV")
    parser.add_argument("--people-trace", type=Path, help="Azure conversations, CSV")
    parser.add_argument("--sizes", type=int, nargs="+", default=list(GOALS))
    parser.add_argument(
        "--scalings", type=Scaling, nargs="+", default=list(Scaling), choices=Scaling
    )
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=900.0, help="of people's")
    parser.add_argument("--load", type=float, default=0.5, help="people's, of capacity")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    args = parser.parse_args(argv)
    unknown = set(args.parts) - set(parts)
    if unknown:
        parser.error(f"unknown part {min(unknown)!r}: {', '.join(parts)}")
    return args


def main(argv: Sequence[str] | None = None) -> None:
    args = _arguments(argv)
    plan = Plan(
        Items(args.items_trace),
        People(args.people_trace),
        args.sizes,
        args.scalings,
        args.seeds,
        args.seconds,
        args.load,
    )
    report: dict = {"machine": machine(), "items": plan.items.name}
    print(f"virtual time; {plan.items.name}; {plan.seeds} seeds; a cold start each")
    if "makespan" in args.parts:
        report["makespan"] = makespans(plan)
        print("\n".join(show_makespans(report["makespan"])), flush=True)
    if "beside" in args.parts:
        report["people"] = plan.people.name
        print(f"{plan.people.name}, load {plan.load:g}, {plan.seconds:g} s a run")
        report["beside"] = beside(plan)
        print("\n".join(show_beside(report["beside"])))
    if "tree" in args.parts:
        report["tree"] = trees(plan)
        print("\n".join(show_trees(report["tree"])))
    if args.out:
        args.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
