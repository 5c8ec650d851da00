"""Listening sockets go from process to process over a real Unix socket."""

from __future__ import annotations

import socket
import sys
from contextlib import closing

import pytest

from router.server.handover import (
    HandoverDuties,
    HandoverError,
    HandoverReport,
    HandoverServer,
    Predecessor,
    fetch,
)
from tests.harness.poll import until
from tests.harness.process import Process

# A router that leaves, as its worker runs it: it has one slot in use on `a`.
LEAVING = """\
from gevent import monkey
monkey.patch_all()
import sys, socket, gevent
from pathlib import Path
from router.server.handover import HandoverDuties, HandoverReport, HandoverServer
door = socket.create_server(("127.0.0.1", int(sys.argv[2])))
def cede(more):
    return HandoverReport({"a": 1 + more.get("a", 0)}, 2)
duties = HandoverDuties(lambda: cede({}), cede, lambda: print("left", flush=True))
HandoverServer(Path(sys.argv[1]), [door.fileno()], duties).start()
gevent.sleep(60)
"""


@pytest.fixture
def folder(tmp_path):
    """A path that is too long for a Unix socket's address."""
    path = tmp_path / ("state" * 30)
    path.mkdir()
    return path


@pytest.fixture
def port():
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


@pytest.fixture
def leaving(folder, port, tmp_path):
    argv = [sys.executable, "-c", LEAVING, folder, str(port)]
    process = Process(argv, log=tmp_path / "leaving.log")
    until((folder / "handover.sock").exists, "it listens")
    yield process
    process.kill()


def test_nobody_is_there(tmp_path):
    """The message says where nobody was."""
    with pytest.raises(HandoverError, match=r"handover\.sock"):
        fetch(tmp_path)
    with pytest.raises(HandoverError, match="no router answers"):
        Predecessor(tmp_path / "none")


def test_the_socket_is_the_same_one(leaving, folder, port):
    """What connected before the hand-over is accepted after it, by the other one."""
    [descriptor] = fetch(folder)
    with (
        socket.socket(fileno=descriptor) as door,
        socket.create_connection(("127.0.0.1", port)) as client,
    ):
        leaving.kill()
        accepted, address = door.accept()
        accepted.close()
        assert address == client.getsockname()


def test_slots_are_told_and_ceded(leaving, folder):
    """Each exchange says what the other one has now."""
    with closing(Predecessor(folder)) as before:
        assert before.finish() == HandoverReport({"a": 1}, 2)
        assert before.cede({"a": 2}) == HandoverReport({"a": 3}, 2)


def test_the_end_of_it_is_noticed(leaving, folder):
    """By the successor, whose slots are all its own then."""
    with closing(Predecessor(folder)) as before:
        before.finish()
        leaving.kill()
        with pytest.raises(HandoverError, match="has ended"):
            before.cede({})


def test_a_successor_may_die(leaving, folder):
    """The next one finds the first, though the dead one had taken its name."""
    with closing(Predecessor(folder)) as before:
        before.finish()
        (folder / "handover.sock").unlink()
    until(lambda: "left" in leaving.log.read_text(), "it is noticed")
    until((folder / "handover.sock").exists, "it listens again")
    with closing(Predecessor(folder)) as again:
        assert again.finish() == HandoverReport({"a": 1}, 2)


def test_a_router_that_ends_leaves_no_name(tmp_path):
    """Its own is gone; one that another router has taken meanwhile stays."""
    report = HandoverReport({}, 0)
    duties = HandoverDuties(lambda: report, lambda _: report, lambda: None)
    first, second = (HandoverServer(tmp_path, [], duties) for _ in range(2))
    first.start()
    second.start()
    first.close()
    assert (tmp_path / "handover.sock").exists()
    second.close()
    assert not (tmp_path / "handover.sock").exists()
