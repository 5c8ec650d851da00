"""Notices that a peer is gone, while nothing is to be sent to it and nothing comes.

A reply may be silent for as long as its node works. A machine that lost its power or
its network does not answer the kernel; one that was started again answers by a reset.
"""

from __future__ import annotations

import socket

_OPTIONS = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 15),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4),
)


def keep_alive(connected: socket.socket) -> None:
    """Have the kernel end the connection 35 s after the last sign of its peer."""
    for level, option, value in _OPTIONS:
        connected.setsockopt(level, option, value)
