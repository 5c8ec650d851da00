"""Files are whole or absent."""

from __future__ import annotations

import pytest

from launcher import files


def test_a_token_is_made_once(tmp_path) -> None:
    """The second call keeps the first one's token."""
    path = tmp_path / "deep" / "token"
    files.ensure_token(path)
    first = path.read_text()

    files.ensure_token(path)

    assert first == path.read_text()
    assert 0o600 == path.stat().st_mode & 0o777


def test_tokens_differ(tmp_path) -> None:
    """No two secrets are alike."""
    for name in "ab":
        files.ensure_token(tmp_path / name)

    assert (tmp_path / "a").read_text() != (tmp_path / "b").read_text()


def test_a_failed_write_leaves_the_old_file(tmp_path) -> None:
    """Text that cannot be written neither harms the file nor leaves another."""
    path = tmp_path / "config"
    files.write(path, "old")

    with pytest.raises(UnicodeEncodeError):
        files.write(path, "new \ud800")

    assert ["config"] == [each.name for each in tmp_path.iterdir()]
    assert "old" == path.read_text()
