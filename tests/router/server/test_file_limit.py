"""The limit of open files is raised, and what does not fit beneath it is entry."""

from __future__ import annotations

import resource
from typing import Any

import pytest
from structlog.testing import CapturingLogger

from router.model import Inventory, Node
from router.server.file_limit import connections_within, for_nodes, spare_for


class Limits:
    """Stands for the two calls of `resource`."""

    def __init__(self, soft, hard):
        self.now = (soft, hard)

    def getrlimit(self, which):
        assert which == resource.RLIMIT_NOFILE
        return self.now

    def setrlimit(self, which, limits):
        self.now = limits


@pytest.fixture
def log() -> Any:
    return CapturingLogger()


@pytest.mark.parametrize(
    ("hard", "soft"),
    [(20_000, 20_000), (resource.RLIM_INFINITY, 1_048_576)],
    ids=["limited", "without limit"],
)
def test_enough(log, hard, soft):
    """The soft limit becomes the hard one; nothing is said."""
    limits = Limits(1024, hard)
    assert connections_within(10_000, 50, log, limits) == 10_000
    assert ((soft, hard), []) == (limits.now, log.calls)


def test_several_files_each(log):
    """A connection behind TLS takes three."""
    assert connections_within(300, 0, log, Limits(1024, 1200), files_each=3) == 300
    assert connections_within(400, 0, log, Limits(1024, 1200), files_each=3) == 317
    assert 128 + 3 * (400 + 50) == log.calls[-1].kwargs["needed"]


def test_too_low(log):
    """What is left for clients is served, and the numbers are entry."""
    assert connections_within(10_000, 72, log, Limits(1024, 1200)) == 888
    (entry,) = log.calls
    assert (1200, 10_456) == (entry.kwargs["limit"], entry.kwargs["needed"])
    assert "at most 888 connections" in entry.kwargs["consequence"]


@pytest.mark.parametrize("limit", [130, 150, 200, 256, 512, 1024, 4096, 10_000])
def test_what_is_promised_fits(log, limit):
    """With those that are closing, and never less than one."""
    clients = connections_within(10_000, 23, log, Limits(limit, limit))
    room = limit - 23 - 128
    assert clients >= 1
    assert clients == 1 or clients + spare_for(clients) <= room
    assert clients == 1 or clients >= room * 0.8 - 8


def test_nodes_need_a_connection_for_each_slot_and_for_polls():
    """A node that does not say its slots has the default's."""
    nodes = (Node("a", "http://a:1", slots=4), Node("b", "http://b:1"))
    assert for_nodes(Inventory(nodes), default_slots=2) == 4 + 2 + 2 * 2
