"""What is counted of a reply at the end of its lease, through a real ledger."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry

from router.capacity.ledger import Lease, Ledger
from router.capacity.load_time import COLD_LOAD_SECONDS
from router.metrics.replies import FIRST_TOKEN_EDGES, Replies
from router.model import DoneReason, Node, Outcome, Timings

KEY = {"node": "n", "model": "m:latest"}
NATIVE = Timings(
    prompt_tokens=200,
    generated_tokens=100,
    prompt_seconds=0.5,
    generate_seconds=4.0,
    load_seconds=0.05,
    total_seconds=5.0,
)


MOST_PAIRS = 20


class Stage:
    """A ledger that Replies listens to, and a clock to move."""

    def __init__(self) -> None:
        self.now = 100.0
        self.ledger = Ledger(1, lambda: self.now)
        self.ledger.configure([Node("n", "http://n:1", slots=99)])
        self.replies = Replies(lambda: self.now, MOST_PAIRS)
        self.ledger.listen(self.replies.ended)
        self.registry = CollectorRegistry()
        self.registry.register(self.replies)

    def take(self, *, streams: bool = True, model: str = "m:latest") -> Lease:
        lease = self.ledger.take("n", model)
        lease.streams = streams
        return lease

    def stream(
        self,
        told: Timings | None = None,
        *,
        after: float = 1.0,
        outcome: Outcome = Outcome.END,
        resident: bool | None = None,
    ) -> None:
        """Have a stream: its first line `after` seconds, its end 5 s later."""
        lease = self.take()
        lease.resident = resident
        self.now += after
        lease.first_token_seconds = after
        lease.decoding_since = self.now
        self.now += 5
        lease.done(outcome, told or Timings())

    def value(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"inferops_{name}", {**KEY, **labels})


@pytest.fixture
def stage() -> Stage:
    return Stage()


def test_tokens_and_seconds_are_of_the_same_replies(stage) -> None:
    """`/v1` tells no times: its tokens stay out of what speeds are made of."""
    stage.stream(NATIVE)
    stage.stream(Timings(prompt_tokens=50, generated_tokens=70))
    assert stage.value("tokens_total", kind="prompt") == 250
    assert stage.value("tokens_total", kind="generated") == 170
    for phase, tokens, seconds in (("prompt", 200, 0.5), ("generate", 100, 4.0)):
        assert stage.value("reply_phase_tokens_total", phase=phase) == tokens
        assert stage.value("reply_phase_seconds_total", phase=phase) == seconds
    assert stage.value("reply_phase_seconds_total", phase="load") == 0.05
    waited = stage.value("reply_phase_seconds_total", phase="wait")
    assert waited == pytest.approx(0.45)


def test_cached_prompt_without_a_time_counts_no_speed(stage) -> None:
    """`/api/embed` tells prompt tokens and no time for them."""
    stage.stream(Timings(prompt_tokens=9, load_seconds=0.01, total_seconds=0.2))
    assert stage.value("tokens_total", kind="prompt") == 9
    assert stage.value("reply_phase_tokens_total", phase="prompt") == 0


def test_phases_longer_than_their_total_are_no_negative_wait(stage) -> None:
    """The node's own sums may not fit by a little; a counter never falls."""
    stage.stream(Timings(1, 2, 1.0, 1.0, 1.0, 2.9))
    assert stage.value("reply_phase_seconds_total", phase="wait") == 0


@pytest.mark.parametrize(
    ("load", "resident", "start"),
    [
        pytest.param(0.05, False, "warm", id="told short, listed absent"),
        pytest.param(COLD_LOAD_SECONDS, True, "cold", id="told long, listed resident"),
        pytest.param(0.0, True, "warm", id="not told, resident"),
        pytest.param(0.0, False, "cold", id="not told, not resident"),
        pytest.param(0.0, None, "unknown", id="not told, never listed"),
    ],
)
def test_warm_and_cold_are_told_apart(stage, load, resident, start) -> None:
    """The node's own word first; then what it had listed; never a guess."""
    told = Timings(generated_tokens=9, load_seconds=load)
    stage.stream(told, resident=resident)
    name = "time_to_first_token_seconds_count"
    counts = {s: stage.value(name, start=s) for s in ("warm", "cold", "unknown")}
    assert counts == {"warm": None, "cold": None, "unknown": None, start: 1}


def test_a_value_at_an_edge_is_within_it(stage) -> None:
    """So that an objective of exactly that target counts it as good."""
    stage.stream(after=1.0, resident=True)
    bucket = "time_to_first_token_seconds_bucket"
    assert stage.value(bucket, start="warm", le="0.75") == 0
    assert stage.value(bucket, start="warm", le="1.0") == 1
    assert stage.value(bucket, start="warm", le="+Inf") == 1
    assert stage.value("time_to_first_token_seconds_sum", start="warm") == 1.0


def test_edges_rise() -> None:
    """Prometheus takes them as they come."""
    assert sorted(set(FIRST_TOKEN_EDGES)) == list(FIRST_TOKEN_EDGES)


def test_a_stream_that_broke_had_its_first_token(stage) -> None:
    """What failed later was there in time; it is no wait without end."""
    stage.stream(after=2.0, outcome=Outcome.EOF, resident=True)
    assert stage.value("time_to_first_token_seconds_count", start="warm") == 1
    assert stage.value("silent_longest_seconds", reply="stream") == 2.0


def test_a_continuation_began_no_stream(stage) -> None:
    """The second node's reply counts its tokens, and no second first token."""
    lease = stage.take()
    stage.now += 1
    lease.decoding_since = stage.now
    lease.done(Outcome.END, NATIVE)
    assert stage.value("time_to_first_token_seconds_count", start="warm") is None
    assert stage.value("tokens_total", kind="generated") == 100


def test_time_per_token_by_the_node_else_by_the_router(stage) -> None:
    """4 s for 100 tokens, told; 5 s for the 100 after the first, measured."""
    stage.stream(NATIVE)
    stage.stream(Timings(generated_tokens=101))
    total = stage.value("time_per_output_token_seconds_sum")
    assert total == pytest.approx(0.04 + 0.05)


def test_one_token_has_no_pace(stage) -> None:
    """Nothing lies between it and another."""
    stage.stream(Timings(generated_tokens=1, generate_seconds=0.5))
    assert stage.value("time_per_output_token_seconds_count") is None


def test_only_loads_are_load_times(stage) -> None:
    """Looking a resident model up is none."""
    stage.stream(NATIVE)
    assert stage.value("model_load_seconds_count") is None
    stage.stream(Timings(generated_tokens=5, load_seconds=2.0))
    assert stage.value("model_load_seconds_count") == 1
    assert stage.value("model_load_seconds_bucket", le="2.5") == 1


def test_the_longest_silence_is_kept_by_kind(stage) -> None:
    """A whole reply is silent until its end: a measure of its own."""
    for after in (3.0, 8.0, 1.0):
        stage.stream(after=after)
    lease = stage.take(streams=False)
    stage.now += 20
    lease.done(Outcome.END, NATIVE)
    assert stage.value("silent_longest_seconds", reply="stream") == 8.0
    assert stage.value("silent_longest_seconds", reply="whole") == 20.0


@pytest.mark.parametrize(
    ("outcome", "told"),
    [
        pytest.param(Outcome.REFUSED, None, id="no reply"),
        pytest.param(Outcome.CLIENT_GONE, None, id="client gone before the first line"),
        pytest.param(Outcome.END, Timings(), id="a node's error, told on"),
    ],
)
def test_what_never_came_is_no_measure(stage, outcome, told) -> None:
    """A request that hung for minutes must not become the longest ever needed.

    Nor may the name of a model that a client made up become a label.
    """
    lease = stage.take(streams=False, model="made-up:latest")
    stage.now += 600
    lease.done(outcome, told)
    samples = [s for family in stage.replies.collect() for s in family.samples]
    assert samples == []


def test_pairs_are_bounded(stage) -> None:
    """The oldest are forgotten."""
    for number in range(MOST_PAIRS + 1):
        stage.take(model=f"m{number}:latest").done(Outcome.END, NATIVE)
    tokens = {"kind": "prompt"}
    assert stage.value("tokens_total", model="m0:latest", **tokens) is None
    assert stage.value("tokens_total", model=f"m{MOST_PAIRS}:latest", **tokens) == 200
    families = {f.name: f for f in stage.replies.collect()}
    assert len(families["inferops_tokens"].samples) == 2 * MOST_PAIRS


def test_lengths_of_prompts_and_answers(stage) -> None:
    """By powers of four, as the node counts; an answer of nothing is none."""
    stage.stream(NATIVE)
    stage.stream(Timings(prompt_tokens=65))
    for kind, edge, count in (
        ("prompt", "64.0", 0),
        ("prompt", "256.0", 2),
        ("generated", "64.0", 0),
        ("generated", "256.0", 1),
    ):
        assert count == stage.value("reply_tokens_bucket", kind=kind, le=edge)


def ended(reason: DoneReason, tokens: int = 9) -> Timings:
    return Timings(generated_tokens=tokens, done_reason=reason)


def test_replies_by_why_they_ended(stage) -> None:
    """The node's word, also of a load; cut: no end; none: an end without a word."""
    for reason in (DoneReason.STOP, DoneReason.STOP, DoneReason.LENGTH):
        stage.stream(ended(reason))
    stage.stream(Timings())
    for outcome in (Outcome.EOF, Outcome.CLIENT_GONE):
        stage.stream(outcome=outcome)
    for timings in (ended(DoneReason.LOAD, 0), ended(DoneReason.NONE)):
        stage.take(streams=False).done(Outcome.END, timings)
    stage.replies.answered("n", "m:latest", DoneReason.UNLOAD)
    expected = {"stop": 2, "length": 1, "none": 2, "cut": 2, "load": 1, "unload": 1}
    found = {word: stage.value("replies_total", reason=word) for word in expected}
    assert expected == found


def test_what_has_no_end_has_no_reason(stage) -> None:
    """Embeddings, and a model's details, tell none and are not counted."""
    embedded = Timings(prompt_tokens=9, total_seconds=0.2)
    stage.take(streams=False).done(Outcome.END, embedded)
    stage.replies.answered("n", "m:latest", DoneReason.NONE)
    families = {family.name: family for family in stage.replies.collect()}
    assert families["inferops_replies"].samples == []


def test_a_node_that_left_is_forgotten(stage) -> None:
    """Its series end with it."""
    stage.stream(NATIVE)
    stage.replies.keep({"n"})
    assert stage.value("tokens_total", kind="prompt") == 200
    stage.replies.keep({"other"})
    assert stage.value("tokens_total", kind="prompt") is None
