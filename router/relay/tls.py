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

from router.config.access import check_pin, tls_context
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
    try:
        with gevent.Timeout(
            seconds, TimeoutError(f"no handshake within {seconds:g} s")
        ):
            node = _shake_hands(plain, host, access)
    except BaseException:
        plain.close()
        raise
    relay, here = cooperative.socketpair()
    gevent.spawn(_carry, node, here)
    gevent.spawn(_carry, here, node)
    return relay


def _shake_hands(
    plain: cooperative.socket, host: str, access: Access
) -> cooperative.socket:
    context = tls_context(access, cooperative_ssl.SSLContext)
    plain.settimeout(None)
    node = context.wrap_socket(plain, server_hostname=host)
    try:
        check_pin(access, node)
    except OSError:
        node.close()
        raise
    return node


def _carry(source: cooperative.socket, sink: cooperative.socket) -> None:
    """Pass everything on; where either side ends, both do."""
    with contextlib.suppress(OSError):
        while data := source.recv(_CHUNK):
            sink.sendall(data)
    source.close()
    sink.close()
