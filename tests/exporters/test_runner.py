"""The runner: isolation, deadlines and reports, with collectors made for the test."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
from prometheus_client import Metric

from exporters.errors import PartialError
from exporters.families import Family
from exporters.runner import COLLECTOR_SHARE, LEAST_SECONDS, Runner
from tests.exporters.exposition import series, text, values
from tests.harness.poll import until

WALL = 1_795_384_000.0


def metric(name: str) -> Metric:
    family = Family(name, "Made for a test.")
    family.add(1)
    return family.metric()


class Works:
    def collect(self, deadline: float) -> Iterator[Metric]:
        yield metric("from_works")


class Fails:
    def collect(self, deadline: float) -> Iterator[Metric]:
        yield metric("from_fails")
        raise RuntimeError("broken in the middle")


class Partly:
    def collect(self, deadline: float) -> Iterator[Metric]:
        yield metric("from_partly")
        raise PartialError("half of it is gone")


class Hangs:
    """Waits until it is let go; counts how often it was started."""

    def __init__(self) -> None:
        self.started = 0
        self.let_go = threading.Event()

    def collect(self, deadline: float) -> Iterator[Metric]:
        self.started += 1
        assert self.let_go.wait(60)
        yield metric("from_hangs")


def of(what: str, collector: str) -> str:
    return series(f"inferops_exporter_collector_{what}", collector=collector)


def scrape(runner: Runner, seconds: float = 5) -> dict[str, float]:
    return values(text(runner.collect(seconds)))


def test_each_collector_is_reported(golden) -> None:
    """The exposition of one that works, one that fails and one half gone."""
    runner = Runner(
        {"works": Works(), "fails": Fails(), "partly": Partly()},
        clock=lambda: 100.0,
        wall=lambda: WALL,
    )
    golden("runner.prom", text(runner.collect(5)))


def test_one_failure_withholds_its_own_data_only() -> None:
    """What a failing collector had yielded already is not served either."""
    found = scrape(Runner({"fails": Fails(), "works": Works()}))
    assert "from_works" in found
    assert "from_fails" not in found
    assert (found[of("up", "works")], found[of("up", "fails")]) == (1, 0)


def test_a_hung_collector_costs_neither_time_nor_data_of_others() -> None:
    """The rest is served within the deadline."""
    hangs = Hangs()
    began = time.monotonic()
    found = scrape(Runner({"hangs": hangs, "works": Works()}), 0.3)
    took = time.monotonic() - began
    hangs.let_go.set()
    assert "from_works" in found
    assert found[of("up", "hangs")] == 0
    assert 0.25 < found[of("duration_seconds", "hangs")] <= took
    assert 0.25 < took < 2


def test_a_hung_collector_is_not_started_again() -> None:
    """Later scrapes do not even wait for it; when it returns, it is run anew."""
    hangs = Hangs()
    runner = Runner({"hangs": hangs})
    scrape(runner, 0.1)
    assert scrape(runner, 3600)[of("up", "hangs")] == 0
    assert hangs.started == 1
    hangs.let_go.set()
    until(lambda: scrape(runner)[of("up", "hangs")] == 1, "it is run anew")
    assert hangs.started == 2


def test_a_late_return_is_no_success() -> None:
    """What came after the deadline is not served, and last_success does not move."""
    now = [0.0]

    class Slow:
        def collect(self, deadline: float) -> Iterator[Metric]:
            now[0] += 6
            yield metric("from_slow")

    found = scrape(Runner({"slow": Slow()}, clock=lambda: now[0]), 5)
    assert (found[of("up", "slow")], found[of("duration_seconds", "slow")]) == (0, 6)
    assert "from_slow" not in found
    assert of("last_success_timestamp_seconds", "slow") not in found
    # Which of the two depends on whether the scrape still waited for it.
    counted = failures(found, "slow")
    assert counted["late"] + counted["hangs"] == sum(counted.values()) == 1


def test_scrapes_at_once_share_a_run() -> None:
    """Two scrapes that overlap start a collector once, and both get its data."""
    hangs = Hangs()
    runner = Runner({"hangs": hangs})
    found: list[dict[str, float]] = []
    threads = [
        threading.Thread(target=lambda: found.append(scrape(runner, 30)))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    until(lambda: hangs.started, "started")
    hangs.let_go.set()
    for thread in threads:
        thread.join()
    assert [each["from_hangs"] for each in found] == [1, 1]


def test_a_collector_is_told_to_give_up_before_the_scrape_does() -> None:
    """So that a silent Ollama is data rather than a hung collector."""
    told: list[float] = []

    class Asks:
        def collect(self, deadline: float) -> Iterator[Metric]:
            told.append(deadline)
            yield metric("from_asks")

    Runner({"asks": Asks()}, clock=lambda: 100.0).collect(10)
    assert told == [100 + 10 * COLLECTOR_SHARE]


def test_last_success_ages() -> None:
    """A collector that stops working keeps the time of its last success."""

    class Once:
        calls = 0

        def collect(self, deadline: float) -> Iterator[Metric]:
            self.calls += 1
            if self.calls > 1:
                raise OSError("gone")
            yield metric("from_once")

    wall = [WALL]
    runner = Runner({"once": Once()}, wall=lambda: wall[0])
    scrape(runner)
    wall[0] += 60
    found = scrape(runner)
    assert found[of("up", "once")] == 0
    assert found[of("last_success_timestamp_seconds", "once")] == WALL


def test_a_failure_is_logged_once(caplog) -> None:
    """One line when it begins and one when it ends, not one for each scrape."""

    class Flaps:
        broken = True

        def collect(self, deadline: float) -> Iterator[Metric]:
            if self.broken:
                raise OSError("gone")
            yield metric("from_flaps")

    flaps = Flaps()
    runner = Runner({"flaps": flaps})
    with caplog.at_level("INFO"):
        scrape(runner)
        scrape(runner)
        flaps.broken = False
        scrape(runner)
        scrape(runner)
    told = [(each.message, each.fields.get("error")) for each in caplog.records]
    assert told == [
        ("collector_failed", "OSError: gone"),
        ("collector_recovered", None),
    ]


def failures(found: dict[str, float], collector: str) -> dict[str, float]:
    name = "inferops_exporter_collector_failures_total"
    reasons = ("error", "partial", "late", "hangs")
    keys = {r: series(name, collector=collector, reason=r) for r in reasons}
    return {reason: found[key] for reason, key in keys.items()}


@pytest.mark.parametrize(
    ("collector", "reason"),
    [
        pytest.param(Works(), None, id="works"),
        pytest.param(Fails(), "error", id="fails"),
        pytest.param(Partly(), "partial", id="in part"),
    ],
)
def test_failures_are_counted_by_reason(collector, reason) -> None:
    """Once a run, and born at 0."""
    runner = Runner({"it": collector})
    scrape(runner)
    expected = dict.fromkeys(("error", "partial", "late", "hangs"), 0.0)
    if reason:
        expected[reason] = 2.0
    assert failures(scrape(runner), "it") == expected


def test_a_hung_run_is_one_failure() -> None:
    """However many scrapes meet it, and however it ends."""
    hangs = Hangs()
    runner = Runner({"it": hangs})
    for _ in range(3):
        assert failures(scrape(runner, LEAST_SECONDS), "it")["hangs"] == 1
    hangs.let_go.set()
    until(lambda: scrape(runner)[of("up", "it")] == 1, "it works again")
    assert failures(scrape(runner), "it") == {
        "error": 0,
        "partial": 0,
        "late": 0,
        "hangs": 1,
    }


def test_the_most_hurried_scraper_sets_the_time_of_runs() -> None:
    """For a minute: who has more time shares its runs with who has less."""
    told: list[float] = []
    now = [0.0]

    class Asks:
        def collect(self, deadline: float) -> Iterator[Metric]:
            told.append(deadline - now[0])
            yield metric("from_asks")

    runner = Runner({"asks": Asks()}, clock=lambda: now[0])
    for at, seconds in ((0, 10), (0, 1), (30, 10), (61, 10), (61, 0.001)):
        now[0] = at
        runner.collect(seconds)
    found = [each / COLLECTOR_SHARE for each in told]
    assert found == pytest.approx([10, 1, 1, 10, LEAST_SECONDS])
