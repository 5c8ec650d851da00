"""Free ports on loopback, each for one process of the tests alone."""

from __future__ import annotations

import collections
import contextlib
import fcntl
import itertools
import os
import random
import socket
import tempfile
from pathlib import Path

# Below those that the kernel gives to outgoing connections: one of these cannot take a
# port between the look and its use. Each process walks on from a place of its own.
_PORTS = range(23_000, 32_000)
_next = itertools.count(random.Random(os.getpid()).randrange(len(_PORTS)))

# Nor can another worker, also while a server is down that shall come back: byte N of
# this file is locked by the process that was given port N, and free when it ends.
_CLAIMS = Path(tempfile.gettempdir()) / f"inferops-test-ports-{os.getuid()}"
_claims = _CLAIMS.open("ab")
_claimed: collections.deque[int] = collections.deque()
_MOST_CLAIMED = 1000


def free_ports(count: int) -> list[int]:
    """Return ports that were free just now, all different.

    Raises OSError where there are too few.
    """
    found: list[int] = []
    with contextlib.ExitStack() as sockets:
        for number in itertools.islice(_next, len(_PORTS)):
            each = sockets.enter_context(socket.socket())
            port = _PORTS[number % len(_PORTS)]
            with contextlib.suppress(OSError):
                _claim(port)
                each.bind(("127.0.0.1", port))
                found.append(port)
            if len(found) == count:
                return found
    raise OSError("no free port")


def free_port() -> int:
    return free_ports(1)[0]


def _claim(port: int) -> None:
    """Take a port for this process; raises OSError where another has it."""
    fcntl.lockf(_claims, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
    _claimed.append(port)
    if len(_claimed) > _MOST_CLAIMED:
        fcntl.lockf(_claims, fcntl.LOCK_UN, 1, _claimed.popleft())
