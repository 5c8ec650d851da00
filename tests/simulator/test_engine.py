"""The engine with a clock of our own: when things happen, to the microsecond."""

from __future__ import annotations

import math

import pytest

from simulator.engine import Engine
from simulator.model import Model, NodeSpec
from simulator.runner import Job, Phase
from simulator.speed import Scaling


def model(name="m", *, size=4e9, abilities=("completion",)) -> Model:
    return Model(
        name=name,
        digest="0" * 64,
        size_bytes=int(size),
        billions=7.0,
        parameter_size="7B",
        family="llama",
        quantization="Q4_0",
        embedding_length=8,
        capabilities=abilities,
    )


M = model()
OTHER = model("other")
NODE = NodeSpec(
    name="n",
    port=1,
    slots=1,
    vram_bytes=10e9,
    tokens_per_second=10.0,
    prompt_tokens_per_second=100.0,
    load_seconds=2.0,
)
TWO_SLOTS = NodeSpec(
    name="n",
    port=1,
    slots=2,
    vram_bytes=10e9,
    tokens_per_second=10.0,
    prompt_tokens_per_second=100.0,
    load_seconds=2.0,
)


def job(of: Model = M, *, at=0.0, prompt=100, tokens=10, keep=None, load=False) -> Job:
    return Job(of, prompt, tokens, at, keep_alive=keep, load_only=load)


def resident(engine: Engine) -> list[str]:
    return [each.model.name for each in engine.resident()]


def run(engine: Engine, until: float, step: float = 0.01) -> None:
    for tick in range(round((until - engine.now) / step)):
        engine.advance(engine.now + step if tick else engine.now)
    engine.advance(until)


@pytest.mark.parametrize("step", [0.001, 0.01, 0.7, 100.0])
def test_goes_through_load_prompt_and_decode(step):
    """Each phase takes its own time, however coarse the clock that looks."""
    engine, one = Engine(NODE, 0.0), job()
    engine.submit(one, 0.0)
    run(engine, 100.0, step)
    assert one.phase is Phase.DONE
    times = (one.ready_at, one.started_at, one.decode_at, one.done_at)
    assert times == pytest.approx((2.0, 2.0, 3.0, 4.0), abs=1e-6)


def test_tokens_come_one_by_one():
    """Half a second into decoding, half of the second's tokens are there."""
    engine, one = Engine(NODE, 0.0), job()
    engine.submit(one, 0.0)
    engine.advance(3.55)
    assert one.ready_tokens == 5
    engine.advance(3.6)
    assert one.ready_tokens == 6


def test_more_requests_than_slots_wait_in_order():
    """One slot: first come, first served, and each waits for a whole answer."""
    engine = Engine(NODE, 0.0)
    jobs = [job(at=at) for at in (0.0, 0.1, 0.2)]
    for each in jobs:
        engine.submit(each, each.submitted_at)
    assert (engine.running, engine.waiting) == (0, 3)
    engine.advance(2.5)
    assert (engine.running, engine.waiting) == (1, 2)
    engine.advance(100.0)
    assert [each.done_at for each in jobs] == pytest.approx([4.0, 6.0, 8.0])


@pytest.mark.parametrize(
    ("scaling", "rate"),
    [
        (Scaling.CPU_STARVED, 10 * 1.21 / 2),
        (Scaling.H200, 10 * 1.14 / 2),
        (Scaling.FLAT, 5.0),
        (Scaling.LINEAR, 10.0),
    ],
)
def test_two_streams_share_the_speed_of_the_profile(scaling, rate):
    """Two streams run at S(2)/2 of one's speed each."""
    engine = Engine(TWO_SLOTS, 0.0, scaling)
    jobs = [job(prompt=0), job(prompt=0)]
    for each in jobs:
        engine.submit(each, 0.0)
    engine.advance(100.0)
    expected = 2.0 + 10 / rate
    assert [each.done_at for each in jobs] == pytest.approx([expected, expected])


def test_a_cancelled_stream_frees_its_slot_at_once():
    """The next in line starts at the very time of the cancellation."""
    engine, first, second = Engine(NODE, 0.0), job(), job()
    engine.submit(first, 0.0)
    engine.submit(second, 0.0)
    engine.cancel(first, 3.5)
    assert second.started_at == pytest.approx(3.5)
    assert first.phase is Phase.FAILED


@pytest.mark.parametrize("when", [1.0, 2.5], ids=["while loading", "while waiting"])
def test_a_cancelled_request_leaves_the_line(when):
    """One that goes away before its turn never takes a slot."""
    engine, first, second, third = Engine(NODE, 0.0), job(), job(), job()
    for each in (first, second, third):
        engine.submit(each, 0.0)
    engine.cancel(second, when)
    engine.advance(100.0)
    assert (second.phase, second.started_at) == (Phase.FAILED, 0.0)
    assert third.done_at == pytest.approx(6.0)


def test_an_embedding_model_has_one_slot():
    """Whatever the node's setting: Ollama forces embedding models to one."""
    embedder = model("e", abilities=("embedding",))
    engine = Engine(TWO_SLOTS, 0.0)
    jobs = [job(embedder, tokens=0), job(embedder, tokens=0)]
    for each in jobs:
        engine.submit(each, 0.0)
    engine.advance(100.0)
    assert [each.done_at for each in jobs] == pytest.approx([3.0, 4.0])


def test_the_least_recently_used_idle_model_makes_room():
    """Memory for two: the third evicts the one that was used longest ago."""
    third = model("third")
    engine = Engine(NODE, 0.0)
    for at, of in ((0.0, M), (5.0, OTHER), (10.0, M)):
        engine.submit(job(of, at=at), at)
    engine.submit(job(third, at=20.0), 20.0)
    assert resident(engine) == ["m"]
    engine.advance(30.0)
    assert sorted(resident(engine)) == ["m", "third"]


def test_a_load_waits_for_busy_models_and_blocks_those_behind_it():
    """No room while both run: the lane stands still, residents go on serving."""
    third, fourth = model("third"), model("fourth", size=1e6)
    engine = Engine(NODE, 0.0)
    engine.submit(job(M, tokens=100), 0.0)
    engine.submit(job(OTHER, tokens=100), 0.0)
    engine.advance(6.0)
    blocked, behind, served = job(third), job(fourth), job(M, tokens=1)
    for each in (blocked, behind, served):
        engine.submit(each, 6.0)
    engine.advance(7.0)
    assert (blocked.phase, behind.phase, served.phase) == (
        Phase.LOADING,
        Phase.LOADING,
        Phase.WAITING,
    )
    engine.advance(100.0)
    assert blocked.ready_at < behind.ready_at
    assert served.done_at < blocked.ready_at + 2


@pytest.mark.parametrize(
    ("keep", "gone_at"),
    [(None, 304.0), (60.0, 64.0), (0.0, 4.0), (math.inf, math.inf)],
    ids=["Ollama's default", "a minute", "at once", "for ever"],
)
def test_a_model_stays_for_its_keep_alive(keep, gone_at):
    """Counted from the end of the last answer, which was at 4 s."""
    engine = Engine(NODE, 0.0)
    engine.submit(job(keep=keep), 0.0)
    engine.advance(min(gone_at, 1e6) - 0.01)
    assert resident(engine) == ["m"]
    engine.advance(min(gone_at, 2e6) + 0.01)
    assert resident(engine) == ([] if gone_at < math.inf else ["m"])


def test_unloading_waits_for_the_answer_under_way():
    """`keep_alive: 0` beside a running answer takes effect at its end."""
    engine = Engine(NODE, 0.0)
    engine.submit(job(), 0.0)
    engine.unload(M, 3.5)
    assert resident(engine) == ["m"]
    engine.advance(4.01)
    assert resident(engine) == []


def test_a_load_alone_makes_resident_and_takes_no_slot():
    """It ends with the load, even while the slot is busy."""
    engine, busy, load = Engine(NODE, 0.0), job(tokens=1000), job(load=True)
    engine.submit(busy, 0.0)
    engine.submit(load, 0.0)
    engine.advance(2.0)
    assert (load.phase, load.done_at, resident(engine)) == (Phase.DONE, 2.0, ["m"])


def test_a_slow_node_takes_longer_from_then_on():
    """Slowed down four times in mid-answer, the second half takes four times."""
    engine, one = Engine(NODE, 0.0), job(prompt=0)
    engine.submit(one, 0.0)
    engine.slow_down(4.0, 2.5)
    engine.advance(100.0)
    assert one.done_at == pytest.approx(2.5 + 0.5 * 4)


def test_without_memory_loads_fail_and_the_busy_go_on():
    """Idle models are gone, a load fails in Ollama's words, an answer ends well."""
    engine, busy = Engine(NODE, 0.0), job(tokens=100)
    engine.submit(job(OTHER, load=True), 0.0)
    engine.submit(busy, 0.0)
    engine.exhaust_memory(exhausted=True, now=5.0)
    assert resident(engine) == ["m"]
    failed = job(OTHER)
    engine.submit(failed, 5.0)
    assert failed.error == (
        "model requires more system memory (4.5 GiB) than is available (0.5 GiB)"
    )
    engine.advance(100.0)
    assert busy.phase is Phase.DONE
    engine.exhaust_memory(exhausted=False, now=100.0)
    again = job(OTHER, at=100.0)
    engine.submit(again, 100.0)
    engine.advance(200.0)
    assert again.phase is Phase.DONE


def test_a_hung_node_makes_no_token():
    """Time that is skipped moves nothing; afterwards it goes on where it was."""
    engine, one = Engine(NODE, 0.0), job(prompt=0)
    engine.submit(one, 0.0)
    engine.advance(2.5)
    engine.skip(60.0)
    assert one.ready_tokens == 5
    engine.advance(61.0)
    assert one.done_at == pytest.approx(60.5)


def test_a_clock_that_goes_back_changes_nothing():
    """Neither time nor tokens are taken back."""
    engine, one = Engine(NODE, 0.0), job()
    engine.submit(one, 0.0)
    engine.advance(3.5)
    engine.advance(1.0)
    assert (engine.now, one.ready_tokens) == (3.5, 5)


def test_memory_counts_the_model_that_is_being_loaded():
    """Weights and the slots' cache, from the start of the load."""
    engine = Engine(TWO_SLOTS, 0.0)
    engine.submit(job(), 0.0)
    assert engine.vram_used_bytes == int(4e9 * (1.1 + 2 * 0.12))
