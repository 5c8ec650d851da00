"""A hold file that is lost, damaged or unreadable: what is found, said and mended."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from dataclasses import replace

import pytest

from router.errors import StateError
from router.holds.history import SqliteAuditLog
from router.holds.mending import MendingJournal
from router.holds.overrides import Overrides
from router.holds.store import HoldStore
from router.model import HoldState, Override
from tests.router.control.fakes import Clock, cordon, drain

LATCHED = drain(state=HoldState.UNKNOWN)
OVERRIDE = Override("rig", "GpuTooHot", "operator:ann", "sensor", 1_000.0, 9_000.0)


def in_order(holds):
    return sorted(holds, key=lambda hold: hold.key)


class Rig:
    """A store over real files, started again and again at one clock."""

    def __init__(self, folder):
        self.folder = folder
        self.file = folder / "holds.db"
        self.clock = Clock()
        self._open = contextlib.ExitStack()

    def start(self):
        """Start, and leave the last one's files as a kill would."""
        self.archive = SqliteAuditLog(self.folder / "history.db")
        self._open.callback(self.archive.close)
        self.journal = MendingJournal(self.file, self.archive.standing, self.clock)
        self._open.callback(self.journal.close)
        self.store = HoldStore(
            self.journal,
            self.clock,
            monotonic=self.clock,
            overrides=Overrides(self.journal, self.clock, self.clock),
            archive=self.archive,
        )
        return self.store

    def close(self):
        self._open.close()

    def mend(self):
        """Wait until it is tried again, and have the store take over what is found."""
        self.clock.now += 60
        found = self.journal.mend()
        if found:
            self.store.adopt(found.holds, "found late")
        return found

    def sql(self, statement):
        with contextlib.closing(sqlite3.connect(self.file)) as database, database:
            return database.execute(statement).fetchall()


@pytest.fixture
def rig(tmp_path):
    rig = Rig(tmp_path / "state")
    yield rig
    rig.close()


@pytest.fixture
def kept(rig):
    """A rig whose files have a cordon, a drain, a lifted hold and an override."""
    store = rig.start()
    lifted = replace(cordon(), node="b")
    for hold in (cordon(), LATCHED, lifted):
        store.place(hold)
    store.lift(*lifted.key, by="ann", why="done")
    store.override(OVERRIDE)
    rig.close()
    return rig


def cut(file):
    file.write_bytes(file.read_bytes()[:1500])


def noise(file):
    data = file.read_bytes()
    file.write_bytes(data[:4096] + os.urandom(len(data) - 4096))


LOSSES = {
    "text": lambda file: file.write_bytes(b"no database" * 1000),
    "cut": cut,
    "noise": noise,
    "emptied": lambda file: file.write_bytes(b""),
    "deleted": lambda file: file.unlink(),
}


@pytest.mark.parametrize("lose", LOSSES.values(), ids=LOSSES)
def test_lost_file_is_found_again_in_the_history(kept, lose):
    """Holds and overrides are back, in a file of their own, and it is told."""
    lose(kept.file)
    store = kept.start()
    assert in_order(store.list()) == in_order([cordon(), LATCHED])
    assert store.overrides.list() == (OVERRIDE,)
    assert kept.journal.fault is None
    assert "2 holds were found again" in kept.journal.notice
    kept.close()
    assert in_order(kept.start().list()) == in_order([cordon(), LATCHED])
    assert kept.journal.notice is None


def test_row_that_makes_no_sense(kept):
    """The others are read from the file, that one from the history."""
    kept.sql("UPDATE holds SET state = 'asleep' WHERE kind = 'drain'")
    kept.sql("UPDATE holds SET reason = 'newer' WHERE kind = 'cordon'")
    store = kept.start()
    assert in_order(store.list()) == in_order(
        [replace(cordon(), reason="newer"), LATCHED]
    )
    assert "'asleep' is not a valid HoldState" in kept.journal.notice
    assert (kept.folder / "holds.db.damaged").exists()


def test_all_is_lost(kept):
    """The level in Prometheus is left; a new file begins."""
    for name in ("holds.db", "history.db"):
        (kept.folder / name).write_bytes(b"\xff" * 9_000)
    store = kept.start()
    assert store.list() == ()
    assert "0 holds were found again" in kept.journal.notice
    store.place(cordon())
    kept.close()
    assert kept.start().list() == (cordon(),)


def test_first_start_has_nothing_to_tell(rig):
    """An empty folder is no loss."""
    assert rig.start().list() == ()
    assert (rig.journal.notice, rig.journal.fault) == (None, None)


def block(rig):
    """Take the folder away, so that nothing can be opened or made in it."""
    rig.folder.rename(rig.folder.with_name("away"))
    rig.folder.write_text("in the way")


def unblock(rig):
    rig.folder.unlink()
    rig.folder.with_name("away").rename(rig.folder)


def test_file_that_comes_late_is_taken_over(kept):
    """What nobody could know is taken over, what was lifted meanwhile is not."""
    block(kept)
    store = kept.start()
    assert store.list() == ()
    fault = kept.journal.fault
    assert "holds.db" in fault
    other = replace(cordon(), node="c")
    with pytest.raises(StateError):
        store.place(other)
    with pytest.raises(StateError):
        store.place(cordon())
    with pytest.raises(StateError):
        store.lift(*cordon().key, by="ann", why="done")
    assert kept.mend() is None
    assert kept.journal.fault
    unblock(kept)
    assert kept.mend()
    assert in_order(store.list()) == in_order([LATCHED, other])
    assert kept.journal.fault is None
    kept.close()
    assert in_order(kept.start().list()) == in_order([LATCHED, other])


def test_uncordon_counts_for_what_is_found_later(kept):
    """A person who releases a node means all of its cordons, known or not."""
    block(kept)
    store = kept.start()
    store.uncordoned("rig")
    unblock(kept)
    kept.mend()
    assert store.list() == (LATCHED,)


def test_newer_release_s_file_is_left_alone(kept):
    """It is read as far as it is understood, and never written or put aside."""
    kept.sql("PRAGMA user_version = 99")
    store = kept.start()
    assert in_order(store.list()) == in_order([cordon(), LATCHED])
    assert "schema 99" in kept.journal.fault
    with pytest.raises(StateError, match="schema 99"):
        store.place(replace(cordon(), node="c"))
    assert kept.mend() is None
    assert kept.sql("SELECT count(*) FROM holds") == [(2,)]


def test_disk_that_refuses_is_noticed_before_it_is_needed(rig):
    """A write now and then that changes nothing says whether the next would do."""
    rig.start()
    rig.mend()
    assert rig.journal.fault is None
    other = sqlite3.connect(rig.file, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    rig.mend()
    assert "locked" in (rig.journal.fault or "")
    other.close()
    rig.mend()
    assert rig.journal.fault is None


def test_expired_holds_are_not_found_again(rig):
    """What had a time is over by then."""
    store = rig.start()
    store.place(cordon(until=1_010.0))
    rig.close()
    rig.file.unlink()
    rig.clock.now = 2_000.0
    store = rig.start()
    store.expire()
    assert store.list() == ()
