"""A file is replaced as a whole, or not at all."""

from __future__ import annotations

import pytest

from router.runtime.whole_file import write_whole


def test_a_file_is_replaced_and_private(tmp_path):
    path = tmp_path / "token"
    write_whole(path, b"one")
    write_whole(path, b"two", durable=True)
    assert path.read_bytes() == b"two"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_what_fails_leaves_the_old_file_alone(tmp_path):
    """Nor does it leave a draft."""
    path = tmp_path / "nodes.yml"
    write_whole(path, b"old", mode=0o644)

    def refuse(_):
        raise PermissionError

    with pytest.raises(PermissionError):
        write_whole(path, b"new", own=refuse)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
