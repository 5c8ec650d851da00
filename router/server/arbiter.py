"""gunicorn's master, held to one worker: two would run two ledgers side by side."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from router.logs.events import Logger

_REFUSED = {
    "hup": "HUP would run a second worker beside the first; configuration is "
    "reloaded inside the process: by itself when a file changes, or by POST "
    "/admin/reload",
    "usr2": "USR2 would run a second router beside this one; stop it and start anew",
    "ttin": "TTIN asks for a second worker; there is one ledger, so there is one",
    "ttou": "TTOU asks for fewer workers than one",
}


def refuse_second_worker(arbiter: Any, log: Logger) -> None:
    """Take the signals that add workers from gunicorn's arbiter.

    Its handlers are looked up by name when a signal comes. The numbers of
    workers given by the command line or WEB_CONCURRENCY end the start.
    """
    if arbiter.num_workers != 1:
        _cannot_start(f"workers must be 1, got {arbiter.num_workers}: {_WHY}")
    if arbiter.cfg.is_ssl:
        _cannot_start("TLS is not spoken here; put a proxy that does in front of it")
    for name, why in _REFUSED.items():
        setattr(arbiter, f"handle_{name}", _refusal(name, why, log))


_WHY = "each would have a ledger of its own and over-commit every node"


def _refusal(name: str, why: str, log: Logger) -> Callable[[], None]:
    def refuse() -> None:
        log.warning("signal_refused", signal=f"SIG{name.upper()}", why=why)

    return refuse


def _cannot_start(why: str) -> None:
    sys.stderr.write(f"the router cannot start:\n{why}\n")
    sys.exit(2)
