"""Which item for a free slot, and when none."""

from __future__ import annotations

import heapq
import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.jobs.model import Backlog, Running, StartCopy, StartItem
from router.jobs.planning.in_flight import InFlightItems
from tests.router.jobs.fleet import MODEL, GivenSpeeds, Items, Stage, item


def test_heaviest_first():
    """The longest item is begun first: begun last, it would be the tail."""
    stage = Stage([item(1, weight=10), item(2, weight=90)], GivenSpeeds({"a": 10.0}))

    assert stage.choose("a") == StartItem(2)


def test_nothing_to_do():
    """Nothing waits and nothing runs: the slot stays idle."""
    assert Stage([], GivenSpeeds({"a": 10.0})).choose("a") is None


def test_a_node_that_nobody_knows_is_tried():
    """The first item on a node is how its speed is learned."""
    stage = Stage([item(1)], GivenSpeeds({"a": None}))

    assert stage.choose("a") == StartItem(1)


def test_tail_is_cut():
    """A slow node takes nothing that the fleet would have done before it."""
    speeds = GivenSpeeds({"quick": 100.0, "slow": 1.0}, slots=2)
    stage = Stage([item(n) for n in range(3)], speeds)
    stage.begin("quick", stage.choose("quick"))

    assert stage.choose("slow") is None


def test_slow_node_works_while_there_is_much_to_do():
    """The same slow node is used as long as it ends before the others do."""
    speeds = GivenSpeeds({"quick": 100.0, "slow": 1.0})
    stage = Stage([item(n) for n in range(500)], speeds)
    stage.begin("quick", stage.choose("quick"))

    assert stage.choose("slow") == StartItem(1)


def test_slow_node_takes_a_lighter_item():
    """Where the heaviest would last too long, one that fits is taken."""
    speeds = GivenSpeeds({"quick": 100.0, "slow": 20.0}, slots=2)
    heavy = [item(n, weight=200) for n in range(2)]
    stage = Stage([*heavy, item(9, weight=20)], speeds)
    stage.run(item(50, weight=100), "quick")

    assert stage.choose("slow") == StartItem(9)


def test_slots_that_bring_nothing_stay_idle():
    """A stream more than is worthwhile is not begun."""
    speeds = GivenSpeeds({"a": 10.0}, slots=1)
    stage = Stage([item(1), item(2)], speeds)
    stage.begin("a", stage.choose("a"))

    assert stage.choose("a") is None


def test_item_does_not_go_where_it_failed():
    """It waits for another node; where it failed everywhere it may go anywhere."""
    speeds = GivenSpeeds({"a": 10.0, "b": 10.0})
    failed = item(1, avoid=frozenset({"a"}))
    stage = Stage([failed], speeds)

    assert stage.choose("a") is None
    assert stage.choose("b") == StartItem(1)

    stage = Stage([item(1, avoid=frozenset({"a", "b"}))], speeds)
    assert stage.choose("a") == StartItem(1)


def test_an_item_goes_on_where_its_text_is():
    """That node has it in its cache; others take what nobody has begun."""
    home = [item(1, home="a", had=50.0), item(2), item(3, home="b", had=50.0)]
    stage = Stage(home, GivenSpeeds({"a": 10.0, "b": 10.0, "c": 10.0}))

    assert stage.choose("a") == StartItem(1)
    assert stage.choose("b") == StartItem(3)
    assert stage.choose("c") == StartItem(2)


def test_an_item_goes_on_anywhere_in_the_end():
    """Where nothing else waits, its text is read again."""
    stage = Stage([item(1, home="a")], GivenSpeeds({"a": 10.0, "b": 10.0}))

    assert stage.choose("b") == StartItem(1)


@pytest.mark.parametrize(
    ("quiet", "taken"), [(1.0, 2), (1000.0, 1)], ids=["a moment", "for long"]
)
def test_short_prompts_where_people_come_and_go(quiet, taken):
    """A long one would be read, and nothing more, until the next of them comes."""
    speeds = GivenSpeeds({"a": 10.0})
    speeds.reads = 100.0
    some = [item(1, prompt=1000.0), item(2, prompt=10.0), item(3, prompt=500.0)]
    stage = Stage(some, speeds)
    stage.quiet["a"] = quiet

    assert stage.choose("a") == StartItem(taken)


def test_what_is_in_the_cache_is_no_long_prompt():
    """It is not read again, however long it is."""
    speeds = GivenSpeeds({"a": 10.0})
    speeds.reads = 100.0
    some = [item(1, prompt=10.0), item(2, prompt=9000.0, home="a")]
    stage = Stage(some, speeds)
    stage.quiet["a"] = 0.1

    assert stage.choose("a") == StartItem(2)


@pytest.mark.parametrize(
    ("quiet", "prompt", "home", "taken"),
    [
        (2.0, 100.0, "", None),
        (4.0, 100.0, "", StartItem(2)),
        (2.0, 50.0, "", StartItem(2)),
        (2.0, 100.0, "a", StartItem(2)),
    ],
    ids=["too soon", "long enough", "a shorter prompt", "in the cache"],
)
def test_a_second_stream_must_pay(quiet, prompt, home, taken):
    """While its prompt is read the first stands: two bring 1.5, so 3 s for each 1 s."""
    speeds = GivenSpeeds({"a": 10.0}, slots=4)
    speeds.reads, speeds.sharing = 100.0, 0.25
    stage = Stage([item(2, prompt=prompt, home=home)], speeds)
    stage.run(item(1), "a")
    stage.quiet["a"] = quiet

    assert stage.choose("a") == taken


def test_what_is_there_is_not_waited_for():
    """An item that had most of its text is no reason to cut the tail."""
    speeds = GivenSpeeds({"quick": 100.0, "slow": 1.0}, slots=2)
    stage = Stage([item(1)], speeds)
    stage.run(item(9), "quick")
    assert stage.choose("slow") is None

    begun = item(2, had=255.0)
    for tokens in [256] * 50:
        stage.lengths.learn(begun, tokens)
    stage = Stage([begun], speeds)
    stage.run(item(9), "quick")
    seconds = stage.policy._times._run_seconds("slow", begun, 1, stage.scene)
    assert seconds is not None
    assert seconds < 256


def test_copy_of_what_takes_longest():
    """An idle quick node repeats the item that gains most, not any."""
    speeds = GivenSpeeds({"quick": 100.0, "slow": 2.0, "slower": 1.0})
    stage = Stage([], speeds)
    stage.run(item(1), "slow")
    stage.run(item(2), "slower")

    assert stage.choose("quick") == StartCopy(2)


def test_one_copy_at_most():
    """A second idle node finds nothing to repeat; not even after the copy failed."""
    speeds = GivenSpeeds({"a": 100.0, "b": 100.0, "slow": 1.0})
    stage = Stage([], speeds)
    stage.run(item(1), "slow")
    copy = stage.begin("a", stage.choose("a"))

    assert stage.choose("b") is None
    stage.end(copy)
    assert stage.choose("b") is None


def test_no_copy_without_a_clear_gain():
    """As quick a node is no reason to do the work twice."""
    stage = Stage([], GivenSpeeds({"a": 10.0, "b": 10.0}))
    stage.run(item(1), "b")

    assert stage.choose("a") is None


def test_copy_before_the_queue_is_empty():
    """What would outlast all that waits is repeated before it, not after it."""
    speeds = GivenSpeeds({"quick": 100.0, "slow": 1.0}, slots=4)
    stage = Stage([item(n) for n in range(2)], speeds)
    stage.run(item(8), "slow")
    stage.run(item(9), "quick")

    assert stage.choose("quick") == StartCopy(8)


def test_unknown_node_is_given_up_as_time_passes():
    """A node that has ended nothing for long is expected to take as long again."""
    speeds = GivenSpeeds({"quick": 100.0, "silent": None})
    stage = Stage([], speeds)
    stage.run(item(1), "silent")
    stage.now = 1.0
    assert stage.choose("quick") is None

    stage.now = 30.0
    assert stage.choose("quick") == StartCopy(1)


def test_node_that_ran_in_vain_gets_no_more_at_the_end():
    """What was taken from it tells of a node that never ended anything."""
    speeds = GivenSpeeds({"quick": 100.0, "silent": None}, slots=2)
    stage = Stage([item(1), item(2)], speeds)
    stage.run(item(3), "quick")
    speeds.vain["silent"] = 40.0

    assert stage.choose("silent") is None


def test_quick_node_first():
    """With several idle, the best is served first."""
    stage = Stage([item(1)], GivenSpeeds({"slow": 20.0, "quick": 100.0}))

    found = stage.policy.assign([stage.free("slow"), stage.free("quick")], stage.scene)
    assert found is not None
    free, choice = found

    assert ("quick", StartItem(1)) == (free.node, choice)


# Models


def two_models(**speeds: float) -> Stage:
    stage = Stage(
        [item(n, model=f"{'ab'[n % 2]}:latest") for n in range(40)],
        GivenSpeeds(speeds, slots=2, load=5.0),
    )
    stage.resident = dict.fromkeys(speeds, frozenset())
    return stage


def test_models_are_grouped():
    """Two nodes serve two models side by side: none loads one for each item."""
    stage = two_models(x=10.0, y=10.0)
    first = stage.begin("x", stage.choose("x"))
    second = stage.begin("y", stage.choose("y"))

    assert {"a:latest", "b:latest"} == {first.item.model, second.item.model}
    for _ in range(15):
        for attempt in (first, second):
            stage.now += 10
            stage.end(attempt)
            again = stage.begin(attempt.node, stage.choose(attempt.node))
            assert attempt.item.model == again.item.model
            first, second = second, again


def test_no_model_waits_for_ever():
    """With one node, each model has its turn, of twenty loads at least.

    Not beside each other: loading one might throw the other out of memory.
    """
    stage = two_models(x=10.0)
    attempt = stage.begin("x", stage.choose("x"))
    other = stage.begin("x", stage.choose("x"))
    assert attempt.item.model == other.item.model

    stage.now = 10.0
    stage.end(attempt)
    attempt = stage.begin("x", stage.choose("x"))
    assert attempt.item.model == other.item.model
    stage.now = 101.0
    stage.end(attempt)
    assert stage.choose("x") is None  # it runs empty first
    stage.end(other)
    taken = stage.begin("x", stage.choose("x"))

    assert attempt.item.model != taken.item.model


def test_only_one_node_runs_empty_for_a_model():
    """The rest of the fleet goes on meanwhile."""
    stage = two_models(x=10.0, y=10.0)
    for node in ("x", "y"):
        for _ in range(2):
            found = next(i for i in stage.waiting.by_id.values() if i.model[0] == "a")
            stage.run(stage.waiting.take(found.id), node)
    stage.now = 101.0
    stage.end(stage.in_flight.on("x")[0])
    stage.end(stage.in_flight.on("y")[0])

    assert [None, "a:latest"] == [
        choice and stage.waiting.by_id[choice.item].model
        for choice in (stage.choose("x"), stage.choose("y"))
    ]


# The whole of a job


class Job:
    """Runs a job by the policy in virtual time, with lengths that it cannot know."""

    def __init__(self, stage: Stage, lengths: dict[int, float]) -> None:
        self.stage = stage
        self.lengths = lengths
        self.ends: list[tuple[float, int, Running]] = []
        self.results: list[int] = []
        self.begun: dict[int, int] = {}
        self.number = 0

    def run(self) -> float:
        self._fill()
        while self.ends:
            at, _, attempt = heapq.heappop(self.ends)
            if attempt not in self.stage.in_flight.attempts(attempt.item.id):
                continue
            self.stage.now = max(at, self.stage.now)
            for each in self.stage.in_flight.attempts(attempt.item.id):
                self.stage.end(each)
            self.results.append(attempt.item.id)
            self.stage.lengths.learn(attempt.item, round(self.lengths[attempt.item.id]))
            self._fill()
        return self.stage.now

    def _fill(self) -> None:
        stage, speeds = self.stage, self.stage.speeds
        while True:
            frees = [
                stage.free(node)
                for node in speeds.by_node
                if speeds.streams(node) < speeds.slots
            ]
            found = stage.policy.assign(frees, stage.scene)
            if found is None:
                return
            free, choice = found
            attempt = stage.begin(free.node, choice)
            number = attempt.item.id
            self.begun[number] = self.begun.get(number, 0) + 1
            seconds = self.lengths[number] / (speeds.by_node[free.node] or 0.0)
            self.number += 1
            heapq.heappush(self.ends, (stage.now + seconds, self.number, attempt))


jobs = st.tuples(
    st.lists(st.floats(1, 1000), min_size=1, max_size=40),
    st.lists(st.floats(1, 200), min_size=1, max_size=6),
    st.integers(1, 4),
)


@given(jobs)
def test_every_item_is_run_once_or_copied_once(job):
    """Each item has exactly one result, and was begun twice at most."""
    lengths, speeds, slots = job
    items = [item(n) for n in range(len(lengths))]
    nodes = {f"n{i}": speed for i, speed in enumerate(speeds)}
    run = Job(Stage(items, GivenSpeeds(nodes, slots=slots)), dict(enumerate(lengths)))
    run.run()

    assert sorted(run.results) == list(range(len(lengths)))
    assert max(run.begun.values()) <= 2
    assert len(run.stage.in_flight) == 0


@given(jobs)
def test_nothing_idles_where_work_would_end_sooner(job):
    """While items wait, the quickest idle node is never left without one.

    What the tail cut leaves idle is slower than some node that is at work.
    """
    lengths, speeds, slots = job
    items = [item(n) for n in range(len(lengths))]
    nodes = {f"n{i}": speed for i, speed in enumerate(speeds)}
    stage = Stage(items, GivenSpeeds(nodes, slots=slots))

    class Checked(Job):
        def _fill(self) -> None:
            super()._fill()
            if len(stage.waiting):
                idle = [n for n in nodes if stage.speeds.streams(n) < slots]
                working = [nodes[n] for n in nodes if stage.speeds.streams(n)]
                assert working
                assert all(nodes[n] <= max(working) for n in idle)

    Checked(stage, dict(enumerate(lengths))).run()


@settings(max_examples=50)
@given(st.integers(0, 10_000))
def test_greedy_bound_holds(seed):
    """The end is within one item of the bound: W / sum(speeds) + p_max / slowest used.

    The theorem of list scheduling, here with lengths that are not known.
    """
    rng = random.Random(seed)
    lengths = {n: rng.uniform(1, 1000) for n in range(60)}
    nodes = {f"n{i}": rng.uniform(20, 200) for i in range(4)}
    stage = Stage([item(n) for n in lengths], GivenSpeeds(nodes))
    seconds = Job(stage, lengths).run()

    bound = sum(lengths.values()) / sum(nodes.values())
    assert seconds <= bound + 2 * max(lengths.values()) / min(nodes.values())


def test_nothing_starves_behind_heavier_items():
    """An item that is lighter than all has its turn while others like it wait."""
    stage = Stage(
        [item(n, weight=1000 - n) for n in range(200)],
        GivenSpeeds({"a": 100.0, "b": 50.0}),
    )
    run = Job(stage, dict.fromkeys(range(200), 100.0))
    run.run()

    assert len(run.results) == 200


# Cost


def crowd(nodes: int, slots: int, waiting: int) -> Stage:
    """A fleet at work, all of its slots but one in use."""
    speeds = GivenSpeeds({f"n{i}": 50.0 + i % 90 for i in range(nodes)}, slots=slots)
    stage = Stage([], speeds)
    number = 0
    for node in speeds.by_node:
        for _ in range(slots):
            number += 1
            stage.run(item(number), node)
    stage.waiting = _Window(waiting)
    stage.end(stage.in_flight.on("n7")[0])
    return stage


class _Window(Items):
    """So many items wait, of which a few are in the window, as in the store."""

    def __init__(self, count: int) -> None:
        super().__init__([item(10**6 + n) for n in range(min(count, 64))])
        self.count = count
        self.window = list(super().heaviest(MODEL))

    def models(self):
        return {MODEL: Backlog(self.count, 100.0 * self.count)} if self.count else {}

    def heaviest(self, model):
        return self.window


@pytest.mark.parametrize(
    ("nodes", "waiting", "most_us"),
    [
        pytest.param(1000, 100_000, 200, id="a thousand nodes, much waits"),
        pytest.param(8, 100_000, 200, id="eight nodes, much waits"),
        pytest.param(1000, 0, 60_000, id="a thousand nodes at the end"),
    ],
)
def test_cost_of_a_choice(nodes, waiting, most_us):
    """A choice costs the same on a thousand nodes; only the end looks at them all.

    Measured in CPU time; the bounds are several times what it takes.
    """
    stage = crowd(nodes, 4, waiting)
    spent = []
    for _ in range(20):
        began = time.thread_time_ns()
        stage.choose("n7")
        spent.append((time.thread_time_ns() - began) / 1e3)

    assert sorted(spent)[len(spent) // 2] < most_us


# In flight


def opening(number: int, **more):
    return item(number, opening=True, **more)


def test_what_opens_a_job_is_spread():
    """Nodes that nobody knows get half of their slots' worth each, in turn."""
    speeds = GivenSpeeds({"a": None, "b": None, "c": None}, slots=4)
    rows = [opening(n) for n in range(6)] + [item(n) for n in range(6, 20)]
    stage = Stage(rows, speeds)
    for _ in range(6):
        found = stage.policy.assign([stage.free(n) for n in "abc"], stage.scene)
        assert found is not None
        free, choice = found
        assert stage.begin(free.node, choice).item.opening
    assert speeds.busy == {"a": 2, "b": 2, "c": 2}


def test_a_node_that_opens_a_job_stays_half_empty():
    """Streams slow each other: the other slots wait, on this node alone."""
    speeds = GivenSpeeds({"a": 100.0, "b": 100.0}, slots=4)
    stage = Stage([item(n) for n in range(3, 40)], speeds)
    for number, node in enumerate("aabb", 50):
        stage.run(opening(number) if number == 50 else item(number), node)

    assert stage.choose("a") is None
    assert stage.choose("b") == StartItem(3)


def test_what_opens_a_job_waits_for_a_quick_node():
    """A slow node takes the next row instead."""
    speeds = GivenSpeeds({"quick": 100.0, "slow": 10.0}, slots=4)
    stage = Stage([opening(1), *(item(n) for n in range(2, 60))], speeds)
    stage.run(item(99), "quick")

    assert stage.choose("slow") == StartItem(2)
    assert stage.choose("quick") == StartItem(1)


def test_what_opens_a_job_does_not_wait_for_ever():
    """Where no other node works for the job, any will do."""
    stage = Stage([opening(1)], GivenSpeeds({"slow": 10.0}, slots=4))

    assert stage.choose("slow") == StartItem(1)


def test_what_opens_a_job_is_copied_from_a_slow_node():
    """Long before the end, but only to a node that is known to be quick."""
    speeds = GivenSpeeds({"quick": 100.0, "slow": 5.0, "new": None}, slots=4)
    stage = Stage([item(n) for n in range(3, 40)], speeds)
    stage.run(opening(1), "slow")
    stage.run(item(2), "quick")

    assert stage.choose("new") == StartItem(3)
    assert stage.choose("quick") == StartCopy(1)


def test_an_item_runs_once():
    """A second attempt is refused unless it is the one copy, and elsewhere."""
    in_flight = InFlightItems()
    in_flight.start(Running(item(1), "a", 0.0))

    for attempt in (Running(item(1), "b", 0.0), Running(item(1), "a", 0.0, copy=True)):
        with pytest.raises(ValueError, match="item 1 runs"):
            in_flight.start(attempt)
    in_flight.start(Running(item(1), "b", 0.0, copy=True))
    with pytest.raises(ValueError, match="item 1 runs already"):
        in_flight.start(Running(item(1), "c", 0.0, copy=True))


def test_sums_follow_what_is_in_flight():
    """The rate is that of what runs, and nothing is left when all has ended."""
    speeds = GivenSpeeds({"a": 10.0, "b": 30.0, "new": None}, slots=4)
    in_flight = InFlightItems()
    for number, node in enumerate(("a", "a", "b", "new")):
        in_flight.start(Running(item(number), node, 0.0))

    assert 2 * 10 + 30 + 20 == in_flight.rate(MODEL, speeds)  # the new one as the mean
    assert 20 == in_flight.typical(MODEL, speeds)
    assert "b" == in_flight.fastest(MODEL, speeds)
    for number, node in enumerate(("a", "a", "b", "new")):
        in_flight.end(number, node)
    assert 0 == in_flight.rate(MODEL, speeds)
    assert in_flight.fastest(MODEL, speeds) is None
    assert in_flight.end(0, "a") is None


def test_following_what_is_kept_elsewhere():
    """Beginnings, ends and copies are taken over from a list."""
    in_flight = InFlightItems()
    first, copy = Running(item(1), "a", 0.0), Running(item(1), "b", 1.0, copy=True)
    other = Running(item(2), "a", 0.0)

    for attempts in ([first, other], [copy, first], [copy], []):
        in_flight.follow(attempts)
        assert {(each.item.id, each.node) for each in attempts} == {
            (each.item.id, each.node) for each in in_flight
        }
    assert not in_flight.copied(1)
