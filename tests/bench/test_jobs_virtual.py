"""The virtual fleet does what engines do, and jobs on it lose nothing."""

from __future__ import annotations

import json

import pytest

from bench.jobs_virtual import main
from bench.virtual.beside import Beside, Way
from bench.virtual.bounds import bound, rate
from bench.virtual.runner import Fleet, VirtualRunner
from bench.virtual.tree import TreeJob, When
from bench.virtual.workload import CPU, MIXED_8, Items, People
from router.jobs.model import Item, ItemKind, ItemResult
from router.jobs.reducers import opens, reducer_for, samples, wave
from simulator.virtual.clock import Clock
from simulator.virtual.node import TOTALS, Caching, Scaling, Spec, Stream, VirtualNode
from simulator.virtual.workload import Ask

pytestmark = pytest.mark.long

NODE = Spec("n", 100, 1000)


def alone(node: VirtualNode, clock: Clock, *asks: Ask) -> list[float]:
    """Run requests that begin together; returns when each ended."""
    ends: list[float] = []
    for ask in asks:
        node.begin(Stream(ask.prompt, ask.tokens, lambda _: ends.append(clock.now)))
    clock.run()
    return ends


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def node(clock):
    return VirtualNode(NODE, TOTALS[Scaling.KERNEL], clock)


def test_one_stream(node, clock):
    """Its prompt is read, then each token takes its time."""
    assert alone(node, clock, Ask(500, 200)) == [pytest.approx(0.5 + 2.0)]


def test_streams_share(node, clock):
    """Four streams bring three times what one does, so each is a third slower."""
    ends = alone(node, clock, *[Ask(1, 300)] * 4)

    assert ends[-1] == pytest.approx(300 * 4 / (3.0 * 100), rel=0.02)


def test_reading_holds_up_the_others(node, clock):
    """While a long prompt is read, others get one token for each 512 of it."""
    ends = alone(node, clock, Ask(1, 100), Ask(5120, 1))

    assert min(ends) == pytest.approx(5.12 + 10 / 100, rel=0.01)
    assert max(ends) == pytest.approx(5.22 + 90 / 100, rel=0.01)


def test_cancelled_stream_frees_its_slot(node, clock):
    """It ends at once, tells what it had, and is never called back."""
    stream = Stream(1, 1000, lambda _: pytest.fail("it was cancelled"))
    node.begin(stream)
    clock.run(until=2.0)
    clock.now = 2.0

    assert node.cancel(stream) == pytest.approx(200, rel=0.02)
    assert len(node) == 0
    clock.run()


@pytest.mark.parametrize(
    ("caching", "others", "first", "second"),
    [
        (Caching.FIRST, 0, 1, 1),
        (Caching.FIRST, 1, 2100, 1),
        (Caching.FIRST, 2, 2100, 2100),
        (Caching.OLDEST, 2, 1, 1),
        (Caching.OLDEST, 3, 2100, 1),
    ],
)
def test_a_text_is_found_in_the_cache(clock, caching, others, first, second):
    """All that a cancelled stream had, until others used its slot."""
    node = VirtualNode(NODE, TOTALS[Scaling.FLAT], clock, caching=caching)
    streams = [Stream(2000, 1000, lambda _: None, key=key) for key in ("a", "b")]
    for each in streams:
        node.begin(each)
    clock.run(until=6.0)
    clock.now = 6.0
    had = [node.cancel(each) for each in streams]
    alone(node, clock, *[Ask(1, 1)] * others)
    again = [Stream(2000 + had[n], 10, lambda _: None, key="ab"[n]) for n in (0, 1)]
    for each in reversed(again):
        node.begin(each)

    assert all(had)
    assert again[0].unread == pytest.approx(first, rel=0.06)
    assert again[1].unread == pytest.approx(second, rel=0.06)


def test_a_common_beginning_is_read_once(clock):
    """By the slot that has it; while that one is busy another one reads it."""
    node = VirtualNode(NODE, TOTALS[Scaling.FLAT], clock, caching=Caching.FIRST)

    def begin(key):
        stream = Stream(2000, 1, lambda _: None, key=key, head=("system", 1500.0))
        node.begin(stream)
        return stream.unread

    assert begin("a") == 2000
    assert begin("b") == 2000
    clock.run()
    assert begin("c") == pytest.approx(500)
    assert begin("b") == 1


def test_what_was_read_of_a_prompt_stays(clock):
    """A stream that is cancelled before its first token need not begin anew."""
    node = VirtualNode(NODE, TOTALS[Scaling.FLAT], clock, caching=Caching.FIRST)
    stream = Stream(2000, 1, lambda _: None, key="a")
    node.begin(stream)
    clock.run(until=1.5)
    clock.now = 1.5
    assert node.cancel(stream) == 0
    again = Stream(2000, 1, lambda _: None, key="a")
    node.begin(again)

    assert again.unread == pytest.approx(500)


def test_no_more_streams_than_slots(node):
    """The ledger must have seen to it."""
    for _ in range(4):
        node.begin(Stream(1, 10, lambda _: None))
    with pytest.raises(ValueError, match="no slot is free"):
        node.begin(Stream(1, 10, lambda _: None))


def test_rate_at_the_best_number_of_streams():
    """Where three streams bring more than four, three are the node's best."""
    asks = (Ask(1, 400),)

    assert rate(NODE, Scaling.CPU_STARVED, asks) == pytest.approx(1.54 / 4, rel=0.02)
    assert rate(NODE, Scaling.FLAT, asks) == pytest.approx(1 / 4, rel=0.02)


def test_bound_is_no_less_than_the_longest():
    """One item cannot be quicker than alone on the quickest node."""
    assert bound(MIXED_8, Scaling.FLAT, [Ask(1, 1370)]) == pytest.approx(10, rel=0.1)


@pytest.mark.parametrize("specs", [MIXED_8, (*MIXED_8, CPU)], ids=["GPUs", "CPU too"])
@pytest.mark.parametrize("scaling", Scaling)
def test_job_ends_near_the_bound(specs, scaling):
    """A thousand items from a cold start: every one done, little wasted.

    5 % over the goal: this is one seed of a synthetic workload.
    """
    asks = Items(None).draw(1000, 1)
    fleet = Fleet(specs, scaling, Clock())
    runner = VirtualRunner(fleet, asks)
    runner.tick()
    fleet.clock.run(done=lambda: runner.over)

    assert runner.tally.done == 1000
    assert fleet.clock.now <= 1.08 * bound(specs, scaling, asks)
    assert runner.tally.wasted <= 0.02 * runner.tally.tokens


@pytest.mark.parametrize("way", Way)
def test_people_are_all_answered(way):
    """Beside a job, in each way, no request and no item is lost."""
    asks = People(None).draw(120.0, 2.0, 1)
    run = Beside(MIXED_8, Scaling.CPU_STARVED, way, Items(None).draw(500, 1))
    run.run(asks, 100_000.0)

    assert len(run.outcome.replies) == sum(ask.at >= 120 for ask in asks)
    assert run.runner.over
    assert sum(run.people.values()) == 0


def test_node_by_node_keeps_people_as_they_were():
    """Taken back as soon as a person comes, a job is hardly felt."""
    asks = People(None).draw(900.0, 2.2, 1)
    p99 = []
    for way in (Way.OFF, Way.CACHED):
        run = Beside(MIXED_8, Scaling.CPU_STARVED, way, Items(None).draw(5000, 1))
        replies = sorted(run.run(asks, 900.0).replies)
        p99.append(replies[int(0.99 * len(replies))])

    assert p99[1] <= 1.15 * p99[0]


@pytest.mark.parametrize("when", When)
def test_tree_ends_with_one_text(when):
    """Whenever the merges run, they are the same ones."""
    rows = Items(None).draw(100, 1)
    job = TreeJob(MIXED_8, Scaling.KERNEL, rows, [200], threshold=8, when=when)
    done = job.run()

    assert done.merges == 13 + 2 + 1
    assert (0 < done.first_at < 100) == (when is When.AT_ONCE)


def test_traces_are_read(tmp_path):
    """The columns are those of the public traces."""
    items, people = tmp_path / "sharegpt.csv", tmp_path / "azure.csv"
    items.write_text(
        "num_prefill_tokens,num_decode_tokens,num_total_tokens,pd_ratio\n"
        "74,918,992,0.08\n290,905,1195,0.3\n"
    )
    people.write_text(
        "TIMESTAMP,ContextTokens,GeneratedTokens\n"
        "2023-11-16 18:15:46.6805900,374,44\n"
        "2023-11-16 18:15:50.9951690,396,109"
    )

    assert {(74, 918), (290, 905)} == {
        (ask.prompt, ask.tokens) for ask in Items(items).draw(2, 1)
    }
    drawn = People(people).draw(1000.0, 0.5, 1)
    assert {(374, 44), (396, 109)} == {(ask.prompt, ask.tokens) for ask in drawn}


def test_report(tmp_path, capsys):
    """Tables for people, JSON for what reads on; a synthetic workload is said."""
    out = tmp_path / "figures.json"
    arguments = ["--sizes", "60", "--scalings", "flat", "--seeds", "1"]
    main([*arguments, "--seconds", "200", "--out", str(out)])
    shown, report = capsys.readouterr().out, json.loads(out.read_text())

    assert "no trace was given" in shown
    assert {"makespan", "beside", "tree"} <= report.keys()
    assert [60, 60] == [row["items"] for row in report["makespan"]]
    assert len(Way) == len(report["beside"])


def test_unknown_part_is_refused(capsys):
    """A typing error does not run everything."""
    with pytest.raises(SystemExit):
        main(["makespans"])

    assert "unknown part 'makespans'" in capsys.readouterr().err


def order_of(spec: dict, rows: int) -> list[int]:
    """Return the items of a job in the order in which they are begun."""
    return sorted(range(rows * samples(spec)), key=lambda n: (wave(spec, n), n))


def rows_until_something_is_shown(spec: dict, specs, seed: int, rows: int = 500) -> int:
    """Run a job; return how many of its items were done when it first showed a text."""
    order = order_of(spec, rows)
    reducer = reducer_for(spec, len(order))
    asks = Items(None).draw(len(order), seed)
    shown = []

    def place(number: int) -> Item:
        index = order[number]
        key, row = str(index), ItemKind.ROW
        return Item(number, "", key, row, index, "", "", "", 0, 0.0)

    def ended(number: int) -> list[Ask]:
        answer = ItemResult(
            str(number), ItemKind.ROW, order[number], "", 200, b"", "7", ""
        )
        reducer.feed(order[number], answer)
        if reducer.partial().covers:
            shown.append(runner.tally.done)
        return []

    clock = Clock()
    runner = VirtualRunner(
        Fleet(specs, Scaling.KERNEL, clock),
        asks,
        answered=ended,
        opens=lambda number: opens(spec, place(number)),
    )
    runner.tick()
    clock.run(done=lambda: bool(shown))
    return shown[0]


@pytest.mark.parametrize("fleet", [MIXED_8, MIXED_8[::-1]], ids=["quick", "slow"])
@pytest.mark.parametrize("kind", ["concat", "stats", "count", "vote"])
def test_something_is_shown_before_a_tenth_is_done(kind, fleet):
    """Of 500 rows, whichever nodes are found first; of votes, of 2,500 samples."""
    for seed in range(4):
        assert rows_until_something_is_shown({"kind": kind}, fleet, seed) < 50


@pytest.mark.parametrize("scaling", list(Scaling))
def test_a_tree_shows_a_text_before_a_tenth_is_done(scaling):
    """Its first eight rows and their merge are run where and when they end soon."""
    for seed in range(3):
        rows = Items(None).draw(500, seed)
        lengths = [ask.tokens for ask in Items(None).draw(500, seed + 1000)]
        job = TreeJob(MIXED_8, scaling, rows, lengths, threshold=8, when=When.AT_ONCE)
        assert job.run().first_at < 50
