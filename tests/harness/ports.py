"""Free ports on loopback."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import socket

# Below those that the kernel gives to outgoing connections: one of these cannot take a
# port between the look and its use. Each process walks on from a place of its own.
_PORTS = range(23_000, 32_000)
_next = itertools.count(random.Random(os.getpid()).randrange(len(_PORTS)))


def free_ports(count: int) -> list[int]:
    """Return ports that were free just now, all different."""
    found: list[int] = []
    with contextlib.ExitStack() as sockets:
        for number in itertools.islice(_next, len(_PORTS)):
            each = sockets.enter_context(socket.socket())
            port = _PORTS[number % len(_PORTS)]
            with contextlib.suppress(OSError):
                each.bind(("127.0.0.1", port))
                found.append(port)
            if len(found) == count:
                return found
    raise OSError("no free port")


def free_port() -> int:
    return free_ports(1)[0]
