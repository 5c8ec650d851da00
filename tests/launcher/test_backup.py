"""The router's state can be saved while it runs, and put back where there is none."""

from __future__ import annotations

import contextlib
import io
import sqlite3
import tarfile

import pytest

from launcher.backup import restore, save


@pytest.fixture
def state(tmp_path):
    """A state with a file and a database that somebody has open."""
    folder = tmp_path / "state"
    (folder / "files").mkdir(parents=True)
    (folder / "files" / "a").write_text("text")
    return folder


@pytest.fixture
def database(state):
    live = sqlite3.connect(state / "jobs.db")
    live.execute("PRAGMA journal_mode = WAL")
    live.execute("CREATE TABLE t (x)")
    live.execute("INSERT INTO t VALUES (1)")
    live.commit()
    yield live
    live.close()


def test_there_and_back(state, database, tmp_path) -> None:
    """What was committed is there again, though the database stayed open."""
    tar = io.BytesIO()
    save(state, tar)
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "nodes.last-good.yml").write_text("[]")

    restore(empty, io.BytesIO(tar.getvalue()))

    assert "text" == (empty / "files" / "a").read_text()
    with contextlib.closing(sqlite3.connect(empty / "jobs.db")) as copy:
        assert [(1,)] == copy.execute("SELECT x FROM t").fetchall()
    assert not list(state.glob(".backup-*"))


def test_nothing_is_overwritten(state, database) -> None:
    """Restoring over a state is refused by name."""
    with pytest.raises(FileExistsError, match="has state already"):
        restore(state, io.BytesIO())


@pytest.mark.parametrize("name", ["../outside", "/outside"])
def test_a_foreign_tar_writes_nothing_elsewhere(tmp_path, name) -> None:
    """A member that leads out of the folder, or is no file, ends the restore."""
    tar, empty = io.BytesIO(), tmp_path / "empty"
    empty.mkdir()
    with tarfile.open(fileobj=tar, mode="w|") as out:
        out.addfile(tarfile.TarInfo(name), io.BytesIO())

    with pytest.raises(OSError, match="not a file of a backup"):
        restore(empty, io.BytesIO(tar.getvalue()))

    assert [] == list(empty.iterdir())
