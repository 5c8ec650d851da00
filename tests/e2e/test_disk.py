"""The router on a disk that is full, read-only or broken: it starts and mends."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

from tests.harness.disk import Disk, small_disk
from tests.harness.poll import until
from tests.harness.ports import free_port
from tests.harness.router import Router
from tests.harness.simulator import Simulated, SimulatedFleet

pytestmark = pytest.mark.e2e

NODES = (
    Simulated("one", slots=4, tokens_per_second=400.0),
    Simulated("two", slots=4, tokens_per_second=400.0),
)
CHAT = {
    "model": "llama3.2:3b",
    "messages": [{"role": "user", "content": "count on from 7"}],
    "options": {"num_predict": 2},
    "stream": False,
}
# Root that may not touch what is another user's.
POWERLESS = ["setpriv", "--bounding-set=-dac_override,-dac_read_search,-fowner"]
STRANGER = 65534
SAVED = 'inferops_state_writable{file="holds.db"}'
Start = Callable[..., Router]


@pytest.fixture(scope="module")
def fleet(tmp_path_factory) -> Iterator[SimulatedFleet]:
    with SimulatedFleet(tmp_path_factory.mktemp("fleet"), NODES) as fleet:
        yield fleet


@pytest.fixture
def disk(tmp_path) -> Iterator[Disk]:
    with small_disk(tmp_path / "disk") as disk:
        yield disk


@pytest.fixture
def start(tmp_path, fleet) -> Iterator[Start]:
    """Start a router whose state is in a folder; it is gone after the test."""
    with contextlib.ExitStack() as stack:

        def started(state: Path, **more) -> Router:
            router = Router(
                tmp_path,
                fleet.inventory,
                prometheus_port=free_port(),
                settings={"STATE__DIRECTORY": str(state)},
                **more,
            )
            stack.callback(router.stop)
            return router.wait_ready()

        yield started


def cordon(router: Router, node: str) -> requests.Response:
    return router.post(f"/admin/nodes/{node}/cordon", {"reason": "new fan"})


def cordoned(router: Router) -> set[str]:
    return {node for node, shown in router.nodes().items() if shown["holds"]}


def warnings(router: Router) -> list[str]:
    answer = router.get("/readyz")
    assert answer.status_code == 200
    return answer.json().get("warnings", [])


def left_behind(start: Start, state: Path) -> None:
    """Let a router cordon a node, and be killed."""
    router = start(state)
    assert cordon(router, "one").status_code == 200
    assert warnings(router) == []
    router.stop()


def belongs_to(file: Path, user: int) -> None:
    """Give a file away, or take it back; its own files the router opens for itself."""
    os.chown(file, user, -1)
    file.chmod(0o600)


def serves(router: Router) -> None:
    answer = router.post("/api/chat", CHAT)
    assert (200, "two") == (answer.status_code, answer.headers["X-InferOps-Node"])


def saves_again(router: Router) -> None:
    until(lambda: router.metric(SAVED) == 1, "holds are saved again", seconds=30)
    until(lambda: warnings(router) == [], "nothing is wrong any more", seconds=30)


@pytest.fixture(
    params=["full", pytest.param("read-only", marks=pytest.mark.long)],
)
def trouble(request, disk) -> tuple[Callable[[], None], Callable[[], None]]:
    """What is wrong with the disk: how it begins, how it ends."""
    if request.param == "full":
        return disk.fill, disk.empty
    return lambda: disk.read_only(on=True), lambda: disk.read_only(on=False)


def test_start_on_a_disk_that_takes_nothing(disk, start, trouble):
    """What is on it holds; it is said that nothing is saved; later all is."""
    begin, end = trouble
    state = disk.folder / "state"
    left_behind(start, state)
    begin()
    router = start(state)
    assert cordoned(router) == {"one"}
    assert "holds.db" in warnings(router)[0]
    assert router.metric(SAVED) == 0
    assert any("holds_not_saved" in line for line in router.log())
    (line,) = router.get("/admin/holds/history").json()
    assert ("one", "placed") == (line["node"], line["change"])
    serves(router)
    end()
    saves_again(router)
    assert cordoned(router) == {"one"}


def test_disk_that_fills_up(disk, start):
    """A change acts and says that it is not saved; it is, once there is room."""
    state = disk.folder / "state"
    left_behind(start, state)
    router = start(state)
    disk.fill()
    refused = cordon(router, "two")
    assert refused.status_code == 507
    assert "the change acts, but is not saved yet" in refused.json()["error"]
    assert cordoned(router) == {"one", "two"}
    assert router.post("/admin/nodes/one/uncordon", {}).status_code == 507
    assert cordoned(router) == {"two"}
    assert router.metric(SAVED) == 0
    disk.empty()
    saves_again(router)
    router.stop()
    again = start(state)
    assert cordoned(again) == {"two"}


def test_first_start_on_a_disk_that_takes_nothing(disk, start, trouble):
    """Without a file to read it starts as well, and makes one as soon as it can."""
    begin, end = trouble
    begin()
    router = start(disk.folder / "state")
    assert router.metric(SAVED) == 0
    assert cordon(router, "one").status_code in {503, 507}
    serves(router)
    end()
    saves_again(router)
    router.stop()
    assert cordoned(start(disk.folder / "state")) == {"one"}


@pytest.mark.long
def test_cordon_that_was_lifted_meanwhile_stays_so(disk, start):
    """What a person lifted before its file could be read does not come back with it."""
    state = disk.folder / "state"
    left_behind(start, state)
    both = [state / name for name in ("holds.db", "history.db")]
    for file in both:
        belongs_to(file, STRANGER)
    router = start(state, inside=POWERLESS)
    assert cordoned(router) == set()
    assert "holds.db" in " ".join(warnings(router))
    assert router.post("/admin/nodes/one/uncordon", {}).status_code == 200
    for file in both:
        belongs_to(file, 0)
    saves_again(router)
    assert cordoned(router) == set()


@pytest.mark.long
def test_file_that_may_not_be_read(tmp_path, start):
    """The history has the cordon; the file is taken up again when it may be read."""
    state = tmp_path / "state"
    left_behind(start, state)
    belongs_to(state / "holds.db", STRANGER)
    router = start(state, inside=POWERLESS)
    assert cordoned(router) == {"one"}
    assert router.metric(SAVED) == 0
    serves(router)
    belongs_to(state / "holds.db", 0)
    saves_again(router)
    assert cordoned(router) == {"one"}


def test_all_state_is_damaged(tmp_path, start):
    """The fleet serves, and the lost file is named until somebody has looked."""
    state = tmp_path / "state"
    left_behind(start, state)
    for file in state.iterdir():
        if file.is_file():
            file.write_bytes(b"\xff" * 5000)
    router = start(state)
    until(lambda: len(warnings(router)) == 2, "what is lost is said", seconds=30)
    told, audit = warnings(router)
    assert "holds.db.damaged" in told
    # It is not replaced: that would be how to get rid of it.
    assert "audit.sqlite is not written" in audit
    assert router.metric('inferops_state_writable{file="audit.sqlite"}') == 0
    assert router.metric('inferops_state_writable{file="usage.sqlite"}') == 1
    assert (state / "holds.db.damaged").exists()
    assert cordon(router, "one").status_code == 200
    serves(router)


def test_file_of_a_newer_release(tmp_path, start):
    """It is not touched: a downgrade must not misread it, nor put it aside."""
    state = tmp_path / "state"
    left_behind(start, state)
    with contextlib.closing(sqlite3.connect(state / "holds.db")) as database:
        database.execute("PRAGMA user_version = 99")
    router = start(state)
    assert "schema 99" in warnings(router)[0]
    assert cordoned(router) == {"one"}
    assert cordon(router, "two").status_code == 503
    with contextlib.closing(sqlite3.connect(state / "holds.db")) as database:
        assert database.execute("SELECT node FROM holds").fetchall() == [("one",)]


def test_machine_that_takes_nothing_anywhere(tmp_path, start):
    """No folder for temporary files either: it starts, serves and says so."""
    script = """
for folder in /tmp /var/tmp "$PWD"; do
    mount --bind "$folder" "$folder" && mount -o remount,bind,ro "$folder" || exit 9
done
exec "$@"
"""
    router = start(
        tmp_path / "state", inside=["unshare", "-m", "sh", "-c", script, "sh"]
    )
    assert "Read-only file system" in " ".join(warnings(router))
    assert router.post("/api/chat", CHAT).status_code == 200
    refused = cordon(router, "one")
    assert refused.status_code == 503
    assert cordoned(router) == {"one"}
