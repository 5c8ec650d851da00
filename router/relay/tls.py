"""A node behind TLS: its connection, as the plain socket that the relay reads.

The relay reads and writes sockets in callbacks of the event loop, which TLS does not
allow: one read of plain text may need several of cipher text, and a write may need a
read. Two greenlets carry the bytes between the node and one end of a socket pair; the
relay has the other. Plain nodes pay nothing for it.
"""

from __future__ import annotations

import contextlib

import gevent
from gevent import socket as cooperative
from gevent import ssl as cooperative_ssl

from router.config.access import secured
from router.model import Access

__all__ = ["wrap"]

_CHUNK = 65_536


def wrap(
    plain: cooperative.socket, host: str, access: Access, seconds: float
) -> cooperative.socket:
    """Shake hands with the node; return the end that the relay uses.

    seconds: the longest handshake
    Raises OSError, and closes `plain`.
    """
    plain.settimeout(None)
    with gevent.Timeout(seconds, TimeoutError(f"no handshake within {seconds:g} s")):
        node = secured(plain, host, access, cooperative_ssl.SSLContext)
    relay, here = cooperative.socketpair()
    gevent.spawn(_carry, node, here)
    gevent.spawn(_carry, here, node)
    return relay


def _carry(source: cooperative.socket, sink: cooperative.socket) -> None:
    """Pass everything on; where either side ends, both do."""
    with contextlib.suppress(OSError):
        while data := source.recv(_CHUNK):
            sink.sendall(data)
    source.close()
    sink.close()
