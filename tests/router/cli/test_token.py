"""The admin token of the command line: where it is found, and for whom."""

from __future__ import annotations

import os

import pytest

from router.cli.token import found_here, own_token

HERE = "http://127.0.0.1:8000"
AWAY = "http://gpu-box.example:8000"


@pytest.fixture
def made(tmp_path):
    path = tmp_path / ".run" / "secrets" / "admin-token"
    path.parent.mkdir(parents=True)
    path.write_text("made\n")
    return path


@pytest.mark.parametrize("url", [HERE, "http://localhost:9000", "http://[::1]:8000"])
def test_token_of_the_first_start(made, url):
    """The person at the machine names nothing."""
    assert found_here(url, {}, [made]) == made


def test_token_is_for_no_other_machine(made):
    """What was made here would be told to whoever answers there."""
    environ = {"INFEROPS_ADMIN__TOKEN_FILE": str(made)}
    assert found_here(AWAY, environ, [made]) is None
    assert found_here("http://127.0.0.1.evil.example", environ, [made]) is None


def test_the_routers_own_variable_comes_first(made, tmp_path):
    """As in its container, where nothing was made by `make up`."""
    environ = {"INFEROPS_ADMIN__TOKEN_FILE": str(tmp_path / "named")}
    assert found_here(HERE, environ, [made]) == tmp_path / "named"


def test_without_a_token(tmp_path):
    """A router that has none trusts this machine."""
    assert found_here(HERE, {}, [tmp_path / "none"]) is None


def test_the_token_of_the_newest_start(made, tmp_path):
    """`make up` and `inferops serve` touch theirs: that of the running one counts."""
    served = own_token(tmp_path / "state")
    assert served is not None
    os.utime(made, (1, 1))
    assert found_here(HERE, {}, [made, served]) == served
    os.utime(served, (0, 0))
    assert found_here(HERE, {}, [made, served]) == made


def test_serve_makes_its_token_once(tmp_path):
    """Long, private, and the same at the next start."""
    path = own_token(tmp_path / "state")
    assert path is not None
    text = path.read_text()
    assert len(text) > 40
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (
        0o600,
        0o700,
    )
    assert own_token(tmp_path / "state") == path
    assert path.read_text() == text


def test_token_that_cannot_be_made(tmp_path):
    """A disk that takes nothing keeps no router from starting."""
    (tmp_path / "state").write_text("in the way")
    assert own_token(tmp_path / "state") is None
