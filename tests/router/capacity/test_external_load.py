"""Others' work on a node is suspected, and costs slots for a while only."""

from __future__ import annotations

from router.capacity.external_load import Evidence
from router.capacity.ledger import Ledger
from router.model import Node, Outcome, Score, Timings
from router.snapshot import NodeView, ResidentModel, Snapshot

M = "m:latest"


class Rig:
    def __init__(self, slots: int = 4) -> None:
        self.now = 1000.0
        self.node = Node("n", "http://n:1", slots=slots)
        self.ledger = Ledger(1, lambda: self.now)
        self.ledger.configure([self.node])

    def reply(self, speed: float, waited: float = 0.0) -> None:
        lease = self.ledger.take("n", M)
        self.now += waited + 2.0
        timings = Timings(
            generated_tokens=int(speed * 1.9),
            generate_seconds=1.9,
            prompt_seconds=0.1,
        )
        lease.done(Outcome.END, timings)

    def poll(self, expires_at: str) -> None:
        listing = {"expires_at": expires_at}
        resident = {M: ResidentModel(M, "d", 1, 1, listing)}
        view = NodeView(self.node, Score(1.0), resident=resident)
        self.ledger.look(Snapshot({"n": view}, self.now))

    def speed(self) -> float:
        speed = self.ledger.speed("n", M)
        assert speed is not None
        return speed

    @property
    def sign(self) -> Evidence | None:
        found = self.ledger.external("n")
        return found.sign if found else None


def test_two_slow_replies():
    """One slow reply may be chance; the second takes a slot away for a while."""
    rig = Rig()
    for _ in range(8):
        rig.reply(100.0)
    rig.reply(40.0)
    assert (None, 4) == (rig.sign, rig.ledger.limit("n", M))
    rig.reply(40.0)
    assert (Evidence.SLOW, 3) == (rig.sign, rig.ledger.limit("n", M))
    rig.now += 31.0
    assert (None, 4) == (rig.sign, rig.ledger.limit("n", M))


def test_replies_beside_others_teach_no_number_of_streams():
    """While foreign load is suspected, who knows how many streams there were."""
    rig = Rig()
    for speed in [100.0] * 8 + [40.0] * 2:
        rig.reply(speed)
    before = rig.ledger.curves["n", M].points[1].weight
    rig.reply(40.0)
    assert before == rig.ledger.curves["n", M].points[1].weight
    assert rig.speed() < 60, "but the node is known to be slow now"


def test_short_replies_accuse_nobody():
    """Of ten tokens, a prompt that is read beside them takes the better part."""
    rig = Rig()
    for speed in [100.0] * 8 + [5.0] * 4:
        rig.reply(speed)
    assert rig.sign is None


def test_noise_is_no_sign():
    """Replies within 10 % of each other accuse nobody."""
    rig = Rig()
    for n in range(200):
        rig.reply(100.0 + (n % 21 - 10))
        assert rig.sign is None


def test_a_wait_inside_the_node():
    """The node's own times do not fill the reply's: somebody else was served."""
    rig = Rig()
    rig.reply(100.0, waited=3.0)
    assert (Evidence.WAITED, 3) == (rig.sign, rig.ledger.limit("n", M))
    assert rig.ledger.room("n", M) == 1, "who picks counts it as a stream"


def test_expiry_that_moved_without_us():
    """A model that fell idle without an end of ours was used by somebody else."""
    rig = Rig()
    rig.poll("10:00")
    rig.poll("10:00")
    assert rig.sign is None
    rig.poll("10:05")
    assert rig.sign is Evidence.EXPIRY


def test_our_own_end_moves_it_too():
    """An end of ours, seen a little later by a poll, accuses nobody."""
    rig = Rig()
    rig.poll("10:00")
    rig.reply(100.0)
    rig.now += 6.0
    rig.poll("10:05")
    assert rig.sign is None


def test_never_the_last_slot():
    """However much is suspected, one slot stays in use."""
    rig = Rig(slots=2)
    for _ in range(6):
        rig.reply(100.0, waited=3.0)
    assert rig.ledger.limit("n", M) == 1
    assert rig.ledger.room("n", M) is not None


def test_a_slow_client_accuses_nobody():
    """`/v1` replies are timed by us, with the client's reading in it."""
    rig = Rig()
    for seconds in [2.0] * 8 + [9.0] * 4:
        lease = rig.ledger.take("n", M)
        lease.decoding_since = rig.now
        rig.now += seconds
        lease.done(Outcome.END, Timings(generated_tokens=100))
    assert rig.speed() < 40
    assert rig.sign is None
