"""A node that slows down is known while its streams run, and found when it recovers."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from router.capacity.drift import LOOK_SECONDS
from router.capacity.external_load import Evidence
from router.capacity.ledger import Lease, Ledger
from router.capacity.throughput import Try
from router.model import Node, Outcome, Timings

M = "m:latest"
SPEED = 50.0  # tokens/s of each of one or two streams


@dataclass(eq=False)
class Stream:
    """A reply on its way: whole lines, of which several may come in one read."""

    lease: Lease
    tokens: float = 0.0
    per_line: float = 1.0
    per_read: int = 1
    held_up: bool = False
    movable: bool = field(default=True, init=False)
    answered: bool = field(default=True, init=False)
    mark: object = field(default=None, init=False)

    @property
    def lines(self) -> int:
        return int(self.tokens / self.per_line)

    @property
    def reads(self) -> int | None:
        return None if self.held_up else self.lines // self.per_read

    def moved_within(self, _: float) -> bool:
        return True

    def evict(self) -> bool:
        return False

    def abandon(self, _: str) -> bool:
        return False


class Busy:
    """One node; its streams come at `speed` tokens/s, as time passes."""

    def __init__(self, per_line: float = 1.0, slots: int | None = 4) -> None:
        self.now = 1000.0
        self.speed = SPEED
        self.per_line = per_line
        self.ledger = Ledger(1, lambda: self.now)
        self.ledger.configure([Node("n", "http://n:1", slots=slots)])
        self.running: list[Stream] = []
        for _ in range(10):
            self.reply()

    def begin(self, model: str = M, **more: object) -> Stream:
        lease = self.ledger.take("n", model)
        lease.streams, lease.decoding_since = True, self.now
        stream = Stream(lease, per_line=self.per_line, **more)  # type: ignore[arg-type]
        lease.reply = stream
        self.running.append(stream)
        return stream

    def end(self, stream: Stream) -> None:
        self.running.remove(stream)
        assert stream.lease.decoding_since is not None
        seconds = self.now - stream.lease.decoding_since
        timings = Timings(
            generated_tokens=int(stream.tokens),
            generate_seconds=seconds,
            prompt_seconds=0.01,
        )
        stream.lease.done(Outcome.END, timings)

    def reply(self, seconds: float = 4.0) -> None:
        stream = self.begin()
        self.run(seconds)
        self.end(stream)

    def run(self, seconds: float) -> None:
        """Let time pass, with a look at what runs every now and then."""
        until = self.now + seconds
        while self.now < until:
            step = min(until - self.now, LOOK_SECONDS)
            self.now += step
            for each in self.running:
                if each.lease.decoding_since is not None:
                    each.tokens += step * self.speed
            self.ledger.look_at_streams()

    @property
    def known(self) -> float:
        speed = self.ledger.curves["n", M].speed(1)
        assert speed is not None
        return speed

    @property
    def weighed(self) -> float:
        """Return the speed by which a decision weighs the node."""
        speed = self.ledger.speed("n", M)
        assert speed is not None
        return speed


def test_slow_down_is_known_while_a_stream_runs():
    """Within three looks, whatever the reply as a whole comes to."""
    busy = Busy()
    stream = busy.begin()
    busy.run(20.0)
    assert busy.known == pytest.approx(SPEED, rel=0.02)
    busy.speed = SPEED / 4
    busy.run(3 * LOOK_SECONDS)
    assert busy.known == pytest.approx(SPEED / 4, rel=0.1)
    busy.run(20.0)
    busy.end(stream)
    assert busy.known == pytest.approx(SPEED / 4, rel=0.1)


def test_a_slow_down_may_be_the_work_of_others():
    """Two slow looks suspect them for a while, as two slow replies do."""
    busy = Busy()
    busy.begin()
    busy.speed = SPEED / 4
    busy.run(3 * LOOK_SECONDS)
    found = busy.ledger.external("n")
    assert found is not None
    assert found.sign is Evidence.SLOW
    busy.run(31.0)
    assert busy.ledger.external("n") is None


def test_recovery_is_known_while_a_stream_runs():
    busy = Busy()
    stream = busy.begin()
    busy.speed = SPEED / 4
    busy.run(20.0)
    busy.speed = SPEED
    busy.run(3 * LOOK_SECONDS)
    assert busy.known == pytest.approx(SPEED, rel=0.1)
    busy.end(stream)
    assert busy.known == pytest.approx(SPEED, rel=0.1)


def test_one_look_is_no_drift():
    """A node, or its network, may stand still for a moment."""
    busy = Busy()
    busy.begin()
    for _ in range(5):
        busy.speed = 0.0
        busy.run(LOOK_SECONDS)
        busy.speed = SPEED
        busy.run(LOOK_SECONDS)
    assert busy.known == pytest.approx(SPEED, rel=0.02)


def test_a_prompt_beside_it_explains_slowness():
    """Most of the time another prompt was read: the stream stood nearly still."""
    busy = Busy()
    busy.begin()
    busy.run(4.0)
    for _ in range(5):
        other = busy.begin()
        other.lease.decoding_since = None
        busy.speed = SPEED / 10
        busy.run(3.8)
        busy.speed = SPEED
        other.lease.decoding_since = busy.now
        busy.run(0.2)
        busy.end(other)
    assert busy.known == pytest.approx(SPEED, rel=0.02)


def test_streams_of_another_model_explain_it():
    busy = Busy()
    busy.begin()
    busy.begin("other:latest")
    busy.speed = SPEED / 4
    busy.run(20.0)
    assert busy.known == pytest.approx(SPEED, rel=0.02)


def test_a_client_that_does_not_read_explains_it():
    busy = Busy()
    stream = busy.begin()
    busy.run(4.0)
    stream.held_up, busy.speed = True, 0.0
    busy.run(20.0)
    assert busy.known == pytest.approx(SPEED, rel=0.02)


def test_a_router_that_was_late_itself_explains_it():
    """Its looks came late, and what had come by then was not read yet."""
    busy = Busy()
    busy.begin()
    for _ in range(5):
        busy.now += 3 * LOOK_SECONDS
        busy.ledger.look_at_streams()
        busy.run(1.0)
    assert busy.known == pytest.approx(SPEED, rel=0.02)


def test_lines_that_were_read_together_are_counted():
    """Reads are counted first, which costs nothing; lines where they seem few."""
    busy = Busy()
    stream = busy.begin(per_read=10)
    busy.run(20.0)
    assert busy.known == pytest.approx(SPEED, rel=0.02)
    busy.speed = SPEED / 4
    busy.run(4 * LOOK_SECONDS)
    assert busy.known == pytest.approx(SPEED / 4, rel=0.1)
    busy.end(stream)


@pytest.mark.parametrize("per_line", [0.5, 4.0])
def test_a_line_may_be_several_tokens(per_line):
    """Replies that ended showed how many."""
    busy = Busy(per_line)
    busy.begin()
    busy.run(20.0)
    assert busy.known == pytest.approx(SPEED, rel=0.05)
    busy.speed = SPEED / 4
    busy.run(3 * LOOK_SECONDS)
    assert busy.known == pytest.approx(SPEED / 4, rel=0.2)


def test_slower_nodes_take_more_time():
    """A token more or less is no evidence, where a few are all there is."""
    busy = Busy()
    busy.speed = 1.0
    for _ in range(60):
        busy.reply(20.0)
    assert busy.known == pytest.approx(1.0, rel=0.1)
    busy.begin()
    busy.run(60.0)
    assert busy.known == pytest.approx(1.0, rel=0.1)
    busy.speed = 0.25
    busy.run(60.0)
    assert busy.known == pytest.approx(0.25, rel=0.3)


def test_a_slowed_node_is_tried_again():
    """For one request it is weighed as it was before; then as it is."""
    busy = Busy()
    busy.speed = SPEED / 4
    busy.reply(20.0)
    busy.run(20.0)
    assert busy.weighed == pytest.approx(SPEED / 4, rel=0.1)
    busy.run(12.0)
    assert busy.weighed == pytest.approx(SPEED, rel=0.1)
    assert busy.known == pytest.approx(SPEED / 4, rel=0.1)
    stream = busy.begin()
    assert busy.weighed == pytest.approx(SPEED / 4, rel=0.1)
    busy.run(8.0)
    busy.end(stream)
    assert busy.weighed == pytest.approx(SPEED / 4, rel=0.1)
    busy.run(42.0)
    assert busy.weighed == pytest.approx(SPEED, rel=0.1)


def test_one_reply_shows_that_it_recovered():
    """Short as it is: nothing but a recovery makes a reply quicker."""
    busy = Busy()
    busy.speed = SPEED / 4
    busy.reply(20.0)
    busy.run(42.0)
    busy.speed = SPEED
    busy.reply(1.0)
    assert busy.known == pytest.approx(SPEED, rel=0.1)
    busy.run(100.0)
    assert busy.weighed == busy.known


def test_what_is_slow_for_long_is_tried_less():
    """A day later once in so many minutes."""
    busy = Busy()
    busy.speed = SPEED / 4
    busy.reply(20.0)
    curve, later = busy.ledger.curves["n", M], busy.now + 86_400.0
    assert curve.try_again(busy.now + 29.0) is None
    assert curve.try_again(busy.now + 31.0) is Try.SHORT
    curve.drift(1.0, later)
    assert curve.try_again(later + 600.0) is None
    assert curve.try_again(later + 1500.0) is Try.SHORT


def test_where_answers_are_all_alike_any_request_tries():
    """A short one is waited for a quarter of a minute."""
    busy = Busy()
    assert busy.ledger.tried_by("n", M) is None
    busy.speed = SPEED / 4
    busy.reply(20.0)
    busy.run(32.0)
    assert busy.ledger.tried_by("n", M) is Try.SHORT
    position = busy.ledger.changes.position
    busy.run(10.0)
    assert busy.ledger.changes.since(position) == []
    busy.run(10.0)
    assert busy.ledger.tried_by("n", M) is Try.ANYBODY
    assert busy.ledger.changes.since(position) == ["n"]


def test_nothing_is_kept_of_what_ended():
    busy = Busy()
    for _ in range(5):
        busy.reply()
    assert not busy.ledger._drifts._seen
