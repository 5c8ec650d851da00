"""`python -m router.server.take_over`: run the router in place of the one that runs.

Takes its listening sockets, then becomes gunicorn, which finds them as those that
systemd passes. The new router takes over once it is ready; until then, and where it
never is, the old one serves. Starts as usual where no router runs.
"""

from __future__ import annotations

import fcntl
import os
import sys
import time
from pathlib import Path

from router.config.reload import open_config_files
from router.logs.events import get_logger
from router.server.handover import HandoverError, fetch

TAKES_OVER = "INFEROPS_TAKES_OVER"
_FIRST = 3  # of systemd's protocol
_CONFIG = str(Path(__file__).parents[1] / "gunicorn.conf.py")


def main(folder: Path) -> None:
    """Take the sockets from the router with this state directory, and serve."""
    environ = dict(os.environ)
    try:
        sockets = fetch(folder)
    except HandoverError as error:
        sys.stderr.write(f"{error}: starting without\n")
    else:
        _place(sockets)
        environ |= {
            "LISTEN_FDS": str(len(sockets)),
            "LISTEN_PID": str(os.getpid()),
            TAKES_OVER: "1",
        }
    command = [sys.executable, "-m", "gunicorn", "-c", _CONFIG, "router.wsgi:app"]
    os.execve(sys.executable, command, environ)  # noqa: S606 - becomes the router


def _place(sockets: list[int]) -> None:
    """Put descriptors where systemd would, from 3 on; none may overwrite another."""
    above = _FIRST + len(sockets)
    apart = [fcntl.fcntl(each, fcntl.F_DUPFD_CLOEXEC, above) for each in sockets]
    for number, each in enumerate(apart, start=_FIRST):
        os.dup2(each, number, inheritable=True)


def _state_folder() -> Path:
    """Read where the state is. Raises ConfigError."""
    path = Path(os.environ.get("INFEROPS_CONFIG", "router/router.yml"))
    files = open_config_files(path, os.environ, get_logger("start"), time.time())
    return files.config.value.state.directory


if __name__ == "__main__":
    main(_state_folder())
