"""Quotas, and a floor of free disk below which nothing new is accepted."""

from __future__ import annotations

import shutil

import pytest

from router.errors import DiskFullError
from router.jobs.input.room import Room, RoomLimits
from router.jobs.input.uploads import Uploads

MIB = 2**20


def a_room(folder, *, stored=2**50, free=0):
    return Room(folder, lambda: RoomLimits(stored, free))


def test_what_is_kept_counts_until_it_is_measured_again(tmp_path):
    """A figure that is a minute old is never too small."""
    room = a_room(tmp_path, stored=100)
    room.measure(lambda: 40)
    room.added(50)
    room.check(10)
    with pytest.raises(DiskFullError, match=r"take 90 bytes, at most 100 are kept \(j"):
        room.check(11)
    room.measure(lambda: 80)
    room.check(20)
    room.measure(lambda: room.added(15) or 80)
    with pytest.raises(DiskFullError, match="take 95 bytes"):
        room.check(6)


def test_below_the_floor_nothing_new_is_accepted(tmp_path):
    """The message says that what was accepted goes on, and names the setting."""
    free = shutil.disk_usage(tmp_path).free
    room = a_room(tmp_path, free=2**60)  # never more than a tenth of the disk
    room.check(0)
    with pytest.raises(DiskFullError, match=r"\(jobs.min_free_bytes\): nothing new"):
        room.check(free)


def test_a_folder_that_is_not_there_yet(tmp_path):
    """Its disk is that of the folder it will be in."""
    a_room(tmp_path / "a" / "b").check(1)


def test_an_upload_is_refused_while_it_arrives(tmp_path):
    """Not when all of it is there; nothing of it is left."""
    room = a_room(tmp_path, stored=3 * MIB)
    uploads = Uploads(tmp_path, room)
    draft = uploads.draft()
    draft.write(b"x" * 2 * MIB)
    draft.seal()
    draft.keep(uploads.path("file-1"))
    second = uploads.draft()
    with pytest.raises(DiskFullError, match="at most 3,145,728 are kept"):
        second.write(b"x" * 2 * MIB)
    second.discard()
    assert ["file-1"] == [path.name for path in tmp_path.iterdir()]
