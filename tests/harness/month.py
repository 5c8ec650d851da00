"""A made-up month of the records of `history.yml`, as blocks for Prometheus.

Days have hours, weeks have weekends, and on one day a node was out. Only for
pictures and for figures of query cost: no test may take it for a measurement.
"""

from __future__ import annotations

import math
import subprocess
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

DAY = 86_400
STEP = 300
# Share of bad events by objective, and while the node was out.
_BAD = {
    "availability": (0.0004, 0.012),
    "first_token_cold": (0.02, 0.06),
    "first_token_warm": (0.012, 0.09),
    "queue_time": (0.006, 0.12),
    "token_time": (0.003, 0.004),
}


class _Series(NamedTuple):
    """A record: labels and value at a time."""

    name: str
    labels: Callable[[int], str]
    value: Callable[[int], float]


def write(
    folder: Path,
    promtool: Path,
    until: float,
    *,
    nodes: Sequence[str],
    models: Sequence[str],
    days: int = 30,
) -> None:
    """Write blocks that end at `until`, in unix seconds, into a folder."""
    text = folder.with_suffix(".txt")
    end = int(until) // STEP * STEP
    times = range(end - days * DAY, end, STEP)
    with text.open("w") as file:
        for name, family in groupby(_series(nodes, models, end), lambda s: s.name):
            file.write(f"# TYPE {name} gauge\n")
            for series in family:
                file.writelines(
                    f"{name}{{{series.labels(at)}}} {series.value(at):.6g} {at}\n"
                    for at in times
                )
        file.write("# EOF\n")
    # In few blocks, as they are after a month: each is another pass over the text.
    argv = [str(promtool), "tsdb", "create-blocks-from", "--max-block-duration=744h"]
    subprocess.run(
        [*argv, "openmetrics", text, folder],
        check=True,
        capture_output=True,
        timeout=300,
    )
    text.unlink()


def busy(at: int) -> float:
    """Give the load of a time, 0 to 1: quiet nights, quiet weekends, some growth."""
    day = datetime.fromtimestamp(at, UTC)
    hour = day.hour + day.minute / 60
    light = max(0.06, math.sin(math.pi * (hour - 6) / 14)) if 6 <= hour <= 20 else 0.06
    week = 0.3 if day.weekday() >= 5 else 1.0
    ripple = 1 + 0.12 * math.sin(at / 900) + 0.08 * math.sin(at / 2300)
    return light * week * ripple * (0.7 + 0.3 * (at % (40 * DAY)) / (40 * DAY))


def _series(nodes: Sequence[str], models: Sequence[str], end: int) -> Iterator[_Series]:
    def was_out(at: int) -> bool:
        return 0 <= at - (end - 9 * DAY) < 5 * 3600

    def available(index: int, at: int) -> float:
        return 0 if index == 1 and was_out(at) else 1

    def of_nodes(
        name: str, full: float, idle: float = 0, labels: str = ""
    ) -> Iterator[_Series]:
        def value(index: int, at: int) -> float:
            if index == 1 and was_out(at):
                return idle
            return idle + full * busy(at) / (index % 5 + 1.5)

        for index, node in enumerate(nodes):
            yield _Series(
                name, _always(f'node="{node}"{labels}'), partial(value, index)
            )

    yield from of_nodes("node:attempts:rate5m", 4)
    yield from of_nodes("node:tokens:rate5m", 800, labels=',kind="generated"')
    yield from of_nodes("node:power:watts_avg5m", 340, idle=55)
    for index, node in enumerate(nodes):
        yield _Series(
            "node:available:ratio_avg5m",
            _always(f'node="{node}"'),
            partial(available, index),
        )
    for name, first, grows in (
        ("model:tokens:rate5m", 900.0, False),
        ("model:first_token:seconds_p95_5m", 0.3, True),
    ):
        labels = "" if grows else ',kind="generated"'
        for index, model in enumerate(models):
            yield _Series(
                name,
                _always(f'model="{model}"{labels}'),
                partial(_of_model, index, first, grows),
            )
    yield from _fleet(len(nodes), was_out)


def _of_model(index: int, first: float, grows: bool, at: int) -> float:
    if grows:
        return first * (1 + index) * (1 + 2 * busy(at) ** 3)
    return first * busy(at) / (index + 1.5)


def _always(labels: str) -> Callable[[int], str]:
    return lambda _at: labels


def _fleet(nodes: int, was_out: Callable[[int], bool]) -> Iterator[_Series]:
    def hour(at: int) -> str:
        day = datetime.fromtimestamp(at, UTC)
        return f'hour="{day.hour}",weekday="{(day.weekday() + 1) % 7}"'

    def events(share: tuple[float, float], at: int) -> float:
        return 300 * rate * busy(at) * share[was_out(at)]

    plain = _always("")
    rate = 2.0 * nodes
    yield from (
        _Series("fleet:requests:rate5m", plain, lambda at: rate * busy(at)),
        _Series("fleet:requests_by_hour:rate5m", hour, lambda at: rate * busy(at)),
        _Series(
            "fleet:failures:rate5m",
            plain,
            lambda at: rate * busy(at) * _BAD["availability"][was_out(at)],
        ),
        _Series(
            "fleet:in_flight:max5m", plain, lambda at: round(1.7 * nodes * busy(at))
        ),
        _Series("fleet:slots:avg5m", plain, lambda at: 2 * nodes - 2 * was_out(at)),
    )
    for name, errors in (
        ("slo:sli_events:count5m", False),
        ("slo:sli_errors:count5m", True),
    ):
        for slo, bad in _BAD.items():
            yield _Series(
                name,
                _always(f'slo="{slo}"'),
                partial(events, bad if errors else (1, 1)),
            )
