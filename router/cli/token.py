"""Where the admin token is, so that the person at the machine names nothing."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

_VARIABLE = (
    "INFEROPS_ADMIN__TOKEN_FILE"  # the router's own setting, as in its container
)
_MADE_AT_FIRST_START = (
    Path(__file__).resolve().parents[2] / ".run" / "secrets" / "admin-token"
)
_HERE = frozenset({"127.0.0.1", "localhost", "::1"})


def found_here(
    url: str, environ: Mapping[str, str], made: Path = _MADE_AT_FIRST_START
) -> Path | None:
    """Give the file of the token for a router on this machine; None elsewhere.

    What was made here is for the router here: it is told to no other machine.
    """
    if urlsplit(url).hostname not in _HERE:
        return None
    if environ.get(_VARIABLE):
        return Path(environ[_VARIABLE])
    return made if os.access(made, os.R_OK) else None
