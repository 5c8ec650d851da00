"""Where the admin token is, so that the person at the machine names nothing."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from router.runtime.whole_file import write_whole

_VARIABLE = (
    "INFEROPS_ADMIN__TOKEN_FILE"  # the router's own setting, as in its container
)
_MADE_BY_MAKE_UP = (
    Path(__file__).resolve().parents[2] / ".run" / "secrets" / "admin-token"
)
_HERE = frozenset({"127.0.0.1", "localhost", "::1"})


def state_folder(environ: Mapping[str, str]) -> Path:
    """Say where `inferops serve` keeps what outlives it."""
    home = environ.get("XDG_STATE_HOME") or Path.home() / ".local/state"
    return Path(home) / "inferops"


def found_here(
    url: str, environ: Mapping[str, str], made: Sequence[Path] | None = None
) -> Path | None:
    """Give the file of the token for a router on this machine; None elsewhere.

    What was made here is for the router here: it is told to no other machine.
    """
    if urlsplit(url).hostname not in _HERE:
        return None
    if made is None:
        made = (_MADE_BY_MAKE_UP, state_folder(environ) / "admin-token")
    if environ.get(_VARIABLE):
        return Path(environ[_VARIABLE])
    there = [each for each in made if os.access(each, os.R_OK)]
    # Touched at each start: the newest is that of the router which runs.
    return max(there, key=lambda path: path.stat().st_mtime, default=None)


def own_token(state: Path) -> Path | None:
    """Make the token of a router that `inferops serve` starts, once.

    None where the disk takes none: the router starts all the same, and trusts this
    machine instead.
    """
    path = state / "admin-token"
    with contextlib.suppress(OSError):
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.exists():
            write_whole(path, f"{secrets.token_urlsafe(32)}\n".encode())
        os.utime(path)
    return path if os.access(path, os.R_OK) else None
