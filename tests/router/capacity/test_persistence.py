"""What was learned and what was in use outlives the process."""

from __future__ import annotations

import json

import pytest
from structlog.testing import capture_logs

from router.capacity.ledger import Ledger
from router.capacity.persistence import LedgerPersistence
from router.capacity.scaling import NO_KIND, Place, Reply, Shape
from router.capacity.slot_policy import LearnedSlots
from router.model import Inventory, Node, Outcome, Score, Timings
from router.snapshot import NodeView, ResidentModel, Snapshot

M = "m:latest"
FLEET = Inventory((Node("n", "http://n:1", slots=2), Node("free", "http://f:1")))


class Life:
    """One life of a router; both clocks start anew with it."""

    def __init__(self, folder, unix: float, fleet: Inventory = FLEET) -> None:
        self.fleet, self.unix, self.now = fleet, unix, 50.0
        self.ledger = Ledger(1, lambda: self.now)
        self.notes = LedgerPersistence(
            folder, self.ledger, clock=lambda: self.unix, monotonic=lambda: self.now
        )
        self.notes.load(fleet)
        self.ledger.configure(fleet.nodes)

    def reply(self, speed: float) -> None:
        lease = self.ledger.take("n", M)
        self.now += 1.0
        timings = Timings(generated_tokens=int(speed), generate_seconds=1.0)
        lease.done(Outcome.END, timings)

    def poll(self, *models: tuple[str, str]) -> None:
        resident = {
            m: ResidentModel(m, "d", 1, 1, {"expires_at": at}) for m, at in models
        }
        view = NodeView(self.fleet.nodes[0], Score(1.0), resident=resident)
        self.ledger.look(Snapshot({"n": view}, self.now))

    def die(self) -> None:
        self.notes.note_in_use(self.fleet)


def test_speeds_and_ceilings_are_kept(tmp_path):
    """The next router knows what this one learned, and how old it is."""
    first = Life(tmp_path, unix=1e9)
    for _ in range(10):
        first.reply(100.0)
    first.ledger.ceiling_search.recall({("free", M): 3})
    first.notes.note_speeds()
    second = Life(tmp_path, unix=1e9 + 600)
    assert second.ledger.speed("n", M) == pytest.approx(100.0)
    assert second.ledger.slots("free") == 3
    (point,) = second.ledger.curves["n", M].points.values()
    assert point.at == pytest.approx(50.0 - 600.0)


def test_a_node_that_slowed_is_tried_by_the_next_router(tmp_path):
    """What it did before it slowed down is kept beside what it does now."""
    first = Life(tmp_path, unix=1e9)
    for _ in range(10):
        first.reply(100.0)
    first.ledger.learned.drift(("n", M), 0.25, first.now)
    first.notes.note_speeds()
    second = Life(tmp_path, unix=1e9 + 10)
    curve = second.ledger.curves["n", M]
    assert curve.speed(1) == pytest.approx(25.0)
    assert curve.usual_speed(1) == pytest.approx(100.0)
    assert not curve.try_again(second.now)
    second.now += 40.0
    second.ledger.look_at_streams()
    assert second.ledger.speed("n", M) == pytest.approx(100.0)


def test_a_file_of_an_older_router_is_taken_over(tmp_path):
    """It keeps speeds and ceilings of nodes; its caps must be shown again."""
    first = Life(tmp_path, unix=1e9)
    first.reply(100.0)
    first.notes.note_speeds()
    file = tmp_path / "speeds.json"
    state = json.loads(file.read_text())
    for curve in state["curves"]:
        curve["points"] = [[*point, 2] for point in curve["points"]]
    state["ceilings"] = {"free": 3}
    del state["model_ceilings"], state["scaling"]
    file.write_text(json.dumps(state))
    second = Life(tmp_path, unix=1e9)
    assert second.ledger.speed("n", M) == pytest.approx(100.0)
    assert second.ledger.ceiling("free", M) == 3


def test_what_the_fleet_showed_is_kept(tmp_path):
    """A cap that was proved holds in the next life, on nodes it never ran on too."""
    first = Life(tmp_path, unix=1e9)
    policy = first.ledger.learned.policy
    assert isinstance(policy, LearnedSlots)
    shape = policy.shapes.setdefault(M, Shape())
    for _ in range(8):
        for streams, speed in ((2, 30.0), (1, 100.0)):
            reply = Reply(streams, 400, 400 / speed, first.now)
            shape.learn(Place("n", NO_KIND, 2), reply)
            shape.learn(Place("n", NO_KIND, 2), reply)
    first.notes.note_speeds()
    second = Life(tmp_path, unix=1e9 + 60)
    second.ledger.ceiling_search.recall({("free", M): 2})
    second.ledger.take("free", M).done(Outcome.END)
    second.ledger.pressed = True
    assert second.ledger.limit("free", M) == 1


def test_nodes_that_left_are_forgotten(tmp_path):
    """What was learned of a node that is not in the inventory is dropped."""
    first = Life(tmp_path, unix=1e9)
    first.reply(100.0)
    first.notes.note_speeds()
    assert {} == Life(tmp_path, 1e9, Inventory(FLEET.nodes[1:])).ledger.curves


def after_a_kill(folder, *, minutes: float = 0.0) -> Life:
    """Two streams of `n` were under way when the router was killed."""
    first = Life(folder, unix=1e9)
    first.poll((M, "10:00"))
    for _ in range(2):
        first.ledger.take("n", M)
    first.die()
    return Life(folder, unix=1e9 + 2 + 60 * minutes)


def test_slots_in_use_count_as_busy(tmp_path):
    """Until thirty seconds have passed, the slots that were in use are taken."""
    second = after_a_kill(tmp_path)
    assert (None, 2) == (second.ledger.room("n", M), second.ledger.recovered("n"))
    second.poll((M, "10:00"))
    second.now += 29.0
    assert second.ledger.room("n", M) is None
    second.now += 1.1
    assert second.ledger.room("n", M) == 0


@pytest.mark.parametrize(
    "seen", [(), ((M, "10:05"),)], ids=["nothing resident", "fell idle"]
)
def test_an_idle_node_is_free_at_once(tmp_path, seen):
    """A poll that shows the node idle ends it; nobody else is suspected for that."""
    second = after_a_kill(tmp_path)
    second.poll(*seen)
    assert second.ledger.room("n", M) == 0
    assert second.ledger.external("n") is None


def test_a_second_kill_forgets_nothing(tmp_path):
    """Leftovers that still count are written again."""
    second = after_a_kill(tmp_path)
    second.die()
    assert Life(tmp_path, unix=1e9 + 4).ledger.recovered("n") == 2


def test_old_notes_do_not_count(tmp_path):
    """After ten minutes nothing of it runs any more."""
    assert after_a_kill(tmp_path, minutes=10).ledger.recovered("n") == 0


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"schema": 9}', '{"schema": 1, "at": "x"}'],
    ids=["empty", "cut", "not an object", "another schema", "no number"],
)
def test_bad_files_are_left_aside(tmp_path, text):
    """A file that cannot be read is named in the log and learned anew."""
    for name in ("speeds.json", "in-use.json"):
        (tmp_path / name).write_text(text)
    with capture_logs() as logs:
        life = Life(tmp_path, unix=1e9)
    assert ["speeds.json", "in-use.json"] == [entry["file"] for entry in logs]
    assert life.ledger.recovered("n") == 0


def test_unchanged_counts_are_not_written_again(tmp_path):
    """Each second costs nothing while nothing changes."""
    life = Life(tmp_path, unix=1e9)
    life.die()
    (tmp_path / "in-use.json").unlink()
    life.die()
    assert not (tmp_path / "in-use.json").exists()


def test_a_full_disk_stops_nothing(tmp_path):
    """What cannot be written is logged; memory goes on."""
    life = Life(tmp_path / "gone", unix=1e9)
    with capture_logs() as logs:
        life.notes.note_speeds()
    assert ["not_kept"] == [entry["event"] for entry in logs]
