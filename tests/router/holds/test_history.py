"""The history of holds: kept over a restart, bounded, found by filters."""

from __future__ import annotations

import contextlib
import sqlite3
from dataclasses import replace

import pytest

from router.errors import StateError
from router.holds.history import AuditQuery, SqliteAuditLog
from router.holds.record import Actor, AuditEvent, Change
from router.holds.store import HoldStore
from router.model import Hold, HoldKind
from tests.router.control.fakes import Clock, MemoryJournal, cordon, drain

DOWN = Hold("b", HoldKind.DOWN, "probe", "refused", 1_000.0)


@pytest.fixture
def opened(tmp_path):
    archives = []

    def start(most=10_000):
        archives.append(SqliteAuditLog(tmp_path / "history.db", lambda: most))
        return archives[-1]

    yield start
    for archive in archives:
        archive.close()


def event(at, hold=None, change=Change.PLACED, by="level", why="it fires"):
    return AuditEvent(at, change, hold or drain(), by, why)


def test_a_line_comes_back_whole(opened):
    """Who, why, since, until, and the hold as it was; after a restart too."""
    lines = (event(1.0), event(2.0, cordon(until=9.0), Change.LIFTED, "ann", "done"))
    opened().append(lines)
    assert opened().find(AuditQuery()) == tuple(reversed(lines))


FILTERS = {
    "all, newest first": (AuditQuery(), [5, 4, 3, 2, 1]),
    "node": (AuditQuery(node="b"), [5, 4]),
    "kind": (AuditQuery(kind="cordon"), [3]),
    "change": (AuditQuery(change="lifted"), [5, 2]),
    "alert": (AuditQuery(alert="GpuTooHot"), [2, 1]),
    "no alert by half a name": (AuditQuery(alert="GpuToo"), []),
    "since": (AuditQuery(since=4.0), [5, 4]),
    "before": (AuditQuery(before=2.0), [1]),
    "limit": (AuditQuery(limit=2), [5, 4]),
    "together": (AuditQuery(node="rig", change="placed", before=3.0), [1]),
}


@pytest.mark.parametrize(("query", "found"), FILTERS.values(), ids=FILTERS)
def test_filters(opened, query, found):
    """Each narrows, and they add up."""
    archive = opened()
    archive.append(
        (
            event(1.0),
            event(2.0, change=Change.LIFTED),
            event(3.0, cordon()),
            event(4.0, DOWN),
            event(5.0, DOWN, Change.LIFTED),
        )
    )
    assert [each.at for each in archive.find(query)] == found


def test_the_oldest_lines_go(opened):
    """A node that flaps for a year fills no disk."""
    archive = opened(most=100)
    for at in range(25):
        archive.append([event(at + n / 10) for n in range(10)])
    kept = archive.find(AuditQuery(limit=1000))
    assert len(kept) == 100
    assert kept[-1].at == 15.0


def test_a_damaged_file_is_put_aside(opened, tmp_path):
    """No router stays down for want of its history."""
    (tmp_path / "history.db").write_bytes(b"no database" * 1000)
    archive = opened()
    archive.append([event(1.0)])
    assert len(archive.find(AuditQuery())) == 1
    assert (tmp_path / "history.db.damaged").exists()


class Refusing:
    """An archive on a disk that is full for a while."""

    def __init__(self):
        self.full, self.events = True, []

    def append(self, events):
        if self.full:
            raise StateError("history.db: disk is full")
        self.events += events


def test_the_store_puts_its_history_away(opened):
    """Holds of people and alerts at once, those of probes with the next pass."""
    archive = opened()
    holds = HoldStore(MemoryJournal(), Clock(), archive=archive)
    holds.place(cordon())
    holds.place(DOWN)
    assert [e.hold for e in archive.find(AuditQuery())] == [cordon()]
    holds.expire()
    assert [e.hold for e in archive.find(AuditQuery())] == [DOWN, cordon()]


def test_a_full_disk_loses_no_line():
    """The hold stands all the same; its line is written when there is room."""
    archive = Refusing()
    holds = HoldStore(MemoryJournal(), Clock(), archive=archive)
    holds.place(cordon())
    holds.lift(*cordon().key, by="ann", why="done")
    assert (archive.events, holds.archive_failures) == ([], 2)
    archive.full = False
    holds.place(replace(DOWN))
    holds.expire()
    assert [e.change for e in archive.events] == ["placed", "lifted", "placed"]


def test_history_of_an_earlier_release(opened, tmp_path):
    """Its lines are read; nothing is known of who was at the other end."""
    opened().append([event(1.0)])
    with contextlib.closing(sqlite3.connect(tmp_path / "history.db")) as database:
        for name in ("principal", "client"):
            database.execute(f"ALTER TABLE events DROP COLUMN {name}")
        database.execute("PRAGMA user_version = 1")
        database.commit()
    archive = opened()
    archive.append([replace(event(2.0), actor=Actor("token:admin", "192.0.2.7"))])
    assert [each.actor for each in archive.find(AuditQuery())] == [
        Actor("token:admin", "192.0.2.7"),
        Actor(),
    ]
