"""Files that arrive in parts: put together once, or gone."""

from __future__ import annotations

import hashlib
import os
import time

import pytest

from router.errors import BadRequestError, ConflictError, DiskFullError, NotFoundError
from router.jobs.input.room import Room, RoomLimits
from router.jobs.input.upload_parts import SECONDS, PartedUploads
from router.jobs.input.uploads import Uploads


class Stage:
    def __init__(self, folder, room=None):
        self.folder = folder / "uploads"
        self.uploads = Uploads(folder / "files", room)
        self.parted = PartedUploads(self.folder, self.uploads)
        self.kept = []

    def add(self, upload, data):
        draft = self.uploads.draft()
        try:
            draft.write(data)
            return self.parted.add(upload, draft)
        finally:
            draft.discard()

    def complete(self, upload, parts, md5=""):
        def keep(found, draft):
            draft.seal()
            draft.keep(self.uploads.path("file-1"))
            self.kept.append(found)
            return "file-1"

        return self.parted.complete(upload, parts, md5, keep)

    def left(self):
        return sorted(path.name for path in self.folder.rglob("part_*"))


@pytest.fixture
def stage(tmp_path):
    return Stage(tmp_path)


def test_parts_are_put_together_in_the_order_that_is_named(stage):
    """Whatever order they came in; nothing of them is left."""
    made = stage.parted.create("a.jsonl", "batch", 6, None)
    second, first = stage.add(made.id, b"def"), stage.add(made.id, b"abc")
    done = stage.complete(made.id, [first, second])
    assert ("completed", "file-1") == (done.status, done.file)
    assert b"abcdef" == stage.uploads.path("file-1").read_bytes()
    assert done == stage.parted.get(made.id)
    assert [] == stage.left()
    with pytest.raises(ConflictError, match="is completed"):
        stage.complete(made.id, [first, second])


@pytest.mark.parametrize(
    ("parts", "md5", "message"),
    [
        (["part_0"], "", "part_ids: the parts have 3 bytes together, the upload was"),
        (["part_0", "part_0"], "", "name each part once"),
        (["part_0", "../x"], "", "part_ids: no part '../x'"),
        (["part_0", "part_1"], "0" * 32, "md5: the parts have another checksum"),
    ],
)
def test_what_does_not_fit_together_is_refused(stage, parts, md5, message):
    """Nothing is lost: it can be completed rightly then."""
    made = stage.parted.create("a", "batch", 6, None)
    ids = {"part_0": stage.add(made.id, b"abc"), "part_1": stage.add(made.id, b"def")}
    with pytest.raises(BadRequestError, match=message):
        stage.complete(made.id, [ids.get(each, each) for each in parts], md5)
    right = hashlib.md5(b"abcdef", usedforsecurity=False).hexdigest()
    assert "completed" == stage.complete(made.id, list(ids.values()), right).status


def test_no_more_than_was_announced(stage):
    """A part too many is refused, and dropped."""
    made = stage.parted.create("a", "batch", 5, None)
    stage.add(made.id, b"abc")
    with pytest.raises(BadRequestError, match="larger than the 5 bytes"):
        stage.add(made.id, b"def")
    assert 1 == len(stage.left())


def test_a_cancelled_upload_is_gone(stage):
    """With its parts; nothing can be added."""
    made = stage.parted.create("a", "batch", 5, None)
    part = stage.add(made.id, b"abc")
    assert "cancelled" == stage.parted.cancel(made.id).status
    assert [] == stage.left()
    with pytest.raises(ConflictError, match="is cancelled"):
        stage.add(made.id, b"x")
    with pytest.raises(ConflictError, match="is cancelled"):
        stage.complete(made.id, [part])


@pytest.mark.parametrize("name", ["upload_none", "..", "upload_" + "0" * 24])
def test_what_is_not_there(stage, name):
    """Names that climb are not looked for."""
    with pytest.raises(NotFoundError, match="no upload"):
        stage.parted.get(name)


def test_it_outlives_a_restart(stage, tmp_path):
    """All of it is on the disk."""
    made = stage.parted.create("a", "batch", 3, None)
    part = stage.add(made.id, b"abc")
    after = Stage(tmp_path)
    assert "completed" == after.complete(made.id, [part]).status


def test_after_an_hour_it_is_over(stage):
    """Nothing can be added, and the sweep takes it."""
    made = stage.parted.create("a", "batch", 3, None)
    stage.add(made.id, b"abc")
    about = stage.folder / made.id / "upload.json"
    old = about.read_text().replace(str(made.created), str(time.time() - SECONDS - 1))
    about.write_text(old)
    with pytest.raises(ConflictError, match="has expired"):
        stage.add(made.id, b"x")
    stage.parted.sweep()
    assert 1 == len(stage.left())
    os.utime(about, (time.time() - SECONDS - 1,) * 2)
    stage.parted.sweep()
    assert not (stage.folder / made.id).exists()


def test_one_that_would_not_fit_is_refused_at_once(tmp_path):
    """Before a byte of it has come."""
    stage = Stage(tmp_path, Room(tmp_path, lambda: RoomLimits(1000, 0)))
    with pytest.raises(DiskFullError, match="at most 1,000 are kept"):
        stage.parted.create("a", "batch", 1001, None)
