"""Holds on disk: kept, gone, locked, damaged; the contract over both journals."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from dataclasses import replace

import pytest

from router.errors import StateError
from router.holds.journal import SqliteHolds
from router.holds.store import HoldStore
from router.model import Clear, HoldState
from tests.router.control.fakes import MemoryJournal, cordon, drain

FULL = drain(state=HoldState.UNKNOWN, clear=Clear.MANUAL, until=2_000.5)


def kind(hold):
    return hold.kind


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state" / "holds.db"


@pytest.fixture
def opened(path):
    journals = []

    def open_journal():
        journals.append(SqliteHolds(path))
        return journals[-1]

    yield open_journal
    for journal in journals:
        journal.close()


@pytest.fixture(params=["memory", "sqlite"])
def journal(request, opened):
    return MemoryJournal() if request.param == "memory" else opened()


class TestJournal:
    """What every journal does."""

    def test_what_was_saved_is_loaded_in_full(self, journal):
        """Each field comes back as it was."""
        for hold in (cordon(), FULL):
            assert journal.save(lambda hold=hold: {hold.key: hold}) == {hold.key: hold}
        assert sorted(journal.load(), key=kind) == [cordon(), FULL]

    def test_the_same_identity_is_overwritten(self, journal):
        """One row for each identity."""
        for reason in ("new fans", "new fans and paste"):
            hold = replace(cordon(), reason=reason)
            journal.save(lambda hold=hold: {hold.key: hold})
        assert [hold.reason for hold in journal.load()] == ["new fans and paste"]

    def test_what_is_gone_is_not_loaded(self, journal):
        """A lift is durable too, also of what was never saved."""
        journal.save(lambda: {cordon().key: cordon()})
        journal.save(lambda: {cordon().key: None, FULL.key: None})
        assert journal.load() == ()


def test_a_second_opening_finds_what_the_first_saved(opened):
    """The file is what outlives the process."""
    opened().save(lambda: {FULL.key: FULL})
    assert opened().load() == (FULL,)


CHILD = """
import os, sys
from pathlib import Path
from router.holds.store import HoldStore
from router.holds.journal import SqliteHolds
from tests.router.control.fakes import cordon, drain
holds = HoldStore(SqliteHolds(Path(sys.argv[1])))
for hold in (cordon(), drain()):
    holds.place(hold)
os.kill(os.getpid(), 9)
"""
PATCHED = "from gevent import monkey; monkey.patch_all()\n"


@pytest.mark.parametrize("patch", ["", PATCHED], ids=["plain", "under gevent"])
def test_holds_survive_a_kill_right_after_they_were_placed(path, opened, patch):
    """On disk when `place` returns: nothing is left to a shutdown."""
    done = subprocess.run(
        [sys.executable, "-c", patch + CHILD, str(path)],
        check=False,
        env={**os.environ, "PYTHONPATH": "."},
        timeout=60,
    )
    assert done.returncode == -9
    assert sorted(opened().load(), key=kind) == [cordon(), drain()]


LATENCY = """
import sqlite3, sys, time
from pathlib import Path
import gevent
from router.holds.store import HoldStore
from router.holds.journal import SqliteHolds
from tests.router.control.fakes import cordon
path = Path(sys.argv[1])
holds = HoldStore(SqliteHolds(path))
other = sqlite3.connect(path, isolation_level=None)
other.execute("BEGIN IMMEDIATE")
ticks = []
def tick():
    while True:
        ticks.append(time.monotonic())
        gevent.sleep(0.01)
ticker = gevent.spawn(tick)
gevent.spawn_later(0.5, other.execute, "COMMIT")
holds.place(cordon())
print(max(b - a for a, b in zip(ticks, ticks[1:])), len(ticks))
"""


def test_a_locked_database_does_not_stop_the_event_loop(path):
    """While a write waits for the disk, streams go on."""
    done = subprocess.run(
        [sys.executable, "-c", PATCHED + LATENCY, str(path)],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": "."},
        timeout=60,
    )
    gap, ticks = done.stdout.split()
    assert float(gap) < 0.3
    assert int(ticks) > 10


def test_a_database_that_stays_locked_is_an_error_that_names_it(path, opened):
    """Nobody waits for another process for ever."""
    journal = opened()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StateError, match=r"holds\.db: database is locked"):
        journal.save(lambda: {FULL.key: FULL})
    other.close()


def test_a_damaged_file_is_an_error_that_names_it(path):
    """Starting over without the operator's holds would put nodes back."""
    path.parent.mkdir()
    path.write_bytes(b"not a database, " * 100)
    with pytest.raises(StateError, match=r"holds\.db: file is not a database"):
        SqliteHolds(path)


def test_a_newer_file_is_refused(path, opened):
    """A downgrade must not misread what the newer release wrote."""
    opened().close()
    database = sqlite3.connect(path)
    database.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(StateError, match=r"schema 99, this one knows 2"):
        SqliteHolds(path)


def stored_as(path, journal, state):
    """Have a hold on disk whose state is called so."""
    journal.save(lambda: {FULL.key: FULL})
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("UPDATE holds SET state = ?", (state,))
    database.close()
    return journal


def test_a_row_that_cannot_be_read_is_an_error(path, opened):
    """A hold is never dropped in silence."""
    journal = stored_as(path, opened(), "asleep")
    with pytest.raises(StateError, match=r"'asleep' is not a valid HoldState"):
        journal.load()


def test_a_state_of_an_earlier_release_is_read(path, opened):
    """What 0.1 stored goes on as it is called now."""
    journal = stored_as(path, opened(), "doorbell")
    (hold,) = journal.load()
    assert hold.state is HoldState.PROVISIONAL


def test_a_directory_that_cannot_be_made_is_an_error(tmp_path):
    """The message names the file, not a stack of calls."""
    (tmp_path / "state").write_text("in the way")
    with pytest.raises(StateError, match=r"state/holds\.db"):
        SqliteHolds(tmp_path / "state" / "holds.db")


def test_the_store_comes_back_over_sqlite(opened):
    """Store and journal together, over a restart."""
    first = HoldStore(opened())
    first.place(cordon())
    first.place(FULL)
    first.lift(*FULL.key, by="ann", why="checked")
    assert HoldStore(opened()).list() == (cordon(),)
