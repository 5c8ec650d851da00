"""Files on the disk: whole or not at all, and strangers are swept away."""

from __future__ import annotations

import os
import subprocess
import time

import pytest

from router.errors import DiskFullError, NotFoundError
from router.jobs.input.uploads import Uploads, new_file_id

MIB = 1024 * 1024


def kept(uploads, data):
    draft = uploads.draft()
    draft.write(data)
    draft.seal()
    file = new_file_id()
    draft.keep(uploads.path(file))
    return file


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_bytes_come_back_as_they_went(tmp_path):
    """Also in many pieces; nothing else is left in the folder."""
    uploads = Uploads(tmp_path)
    data = os.urandom(3 * MIB + 17)
    file = kept(uploads, data)
    assert data == b"".join(uploads.pieces(file))
    assert [file] == names(tmp_path)
    uploads.remove(file)
    uploads.remove(file)  # a second time changes nothing
    assert [] == names(tmp_path)


def test_a_draft_that_is_dropped_leaves_nothing(tmp_path):
    """Whatever was written to it; dropping what was kept changes nothing."""
    uploads = Uploads(tmp_path)
    draft = uploads.draft()
    draft.write(b"x" * 2 * MIB)
    draft.discard()
    assert [] == names(tmp_path)
    draft = uploads.draft()
    draft.write(b"abc")
    draft.seal()
    draft.keep(uploads.path("file-1"))
    draft.discard()
    assert ["file-1"] == names(tmp_path)


def test_a_file_that_is_not_here_is_told(tmp_path):
    """Before the first byte."""
    with pytest.raises(NotFoundError, match="'file-none' are not here"):
        Uploads(tmp_path).pieces("file-none")


def test_old_strangers_are_swept_away(tmp_path):
    """Fresh ones are not: their row may follow by a moment."""
    uploads = Uploads(tmp_path)
    known, stranger, fresh = (kept(uploads, b"x") for _ in range(3))
    draft = tmp_path / "0123.part"
    draft.write_bytes(b"x")
    long_ago = time.time() - 200_000
    for name in (known, stranger, draft.name):
        os.utime(tmp_path / name, (long_ago, long_ago))
    assert 2 == uploads.sweep({known}.intersection)
    assert sorted([known, fresh]) == names(tmp_path)


def test_a_full_disk_is_told_as_such(tmp_path):
    """And what was written goes away with its draft."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(tmp_path)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a tmpfs cannot be mounted here: root is needed")
    try:
        draft = Uploads(tmp_path).draft()
        with pytest.raises(DiskFullError):
            draft.write(b"x" * 3 * MIB)
        draft.discard()
        assert [] == names(tmp_path)
    finally:
        subprocess.run(["umount", "-l", str(tmp_path)], check=True)
