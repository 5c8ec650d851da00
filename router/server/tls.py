"""TLS of clients: an encrypted connection, as the plain socket that the worker serves.

The relay writes to a client's socket in callbacks of the event loop, which TLS does not
allow. Two greenlets carry the bytes between the client and one end of a socket pair;
the worker has the other. Clients without TLS pay nothing for it.
"""

from __future__ import annotations

import contextlib
import socket as plain_socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gevent
from gevent import socket, ssl

from router.errors import BusyError, ConfigError
from router.logs.events import get_logger

FILES_EACH = 3  # open files of a connection: its own, and both ends of the pair
HANDSHAKE_SECONDS = 10.0
_LAST_SECONDS = 1.0
_CHUNK = 65_536
_WHY = b'{"error":"this address speaks https only"}'
_PLAIN = (
    b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Type: application/json"
    b"\r\nContent-Length: %d\r\n\r\n%b" % (len(_WHY), _WHY)
)

log = get_logger("tls")


class Certificate:
    """The router's certificate with its key, read again when a file changes.

    Who is connected goes on with the certificate that there was.

    context: what new connections shake hands with
    fault:   why the files as they are now are not used; empty: they are
    offload: runs a call where it may touch the disk
    """

    def __init__(
        self,
        chain: Path,
        key: Path,
        offload: Callable[[Callable[[], Any]], Any] = lambda call: call(),
    ) -> None:
        """Read the files. Raises ConfigError."""
        self._files = chain, key
        self._offload = offload
        self.fault = ""
        try:
            self._seen, self.context = offload(self._read)
        except OSError as error:
            raise ConfigError(f"web.tls_cert, web.tls_key: {_said(error)}") from error

    def check(self) -> None:
        """Take the files if they changed; keep the last good ones if they are faulty.

        The two are rarely replaced at one instant: while they do not fit, what was
        read before stays.
        """
        try:
            if self._offload(self._signature) == self._seen and not self.fault:
                return
            self._seen, self.context = self._offload(self._read)
        except BusyError:
            return  # the next check will do
        except OSError as error:
            fault = _said(error)
            if fault != self.fault:
                log.error("certificate_rejected", fault=fault)  # noqa: TRY400 - said
            self.fault = fault
            return
        self.fault = ""
        log.info("certificate_reloaded", file=self._files[0].name)

    def _read(self) -> tuple[object, ssl.SSLContext]:
        seen = self._signature()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        # A key with a password would ask for it on the terminal.
        context.load_cert_chain(*self._files, password=lambda: b"")
        return seen, context

    def _signature(self) -> object:
        found = (path.stat() for path in self._files)
        return [(each.st_mtime_ns, each.st_size, each.st_ino) for each in found]


def tls_of(
    address: str, certificate: Certificate
) -> Callable[[Any], ssl.SSLContext | None]:
    """Say by a listener's name what its clients shake hands with; None: nothing."""
    port = int(address.rpartition(":")[2])

    def find(name: Any) -> ssl.SSLContext | None:
        https = isinstance(name, tuple) and name[1] == port
        return certificate.context if https else None

    return find


def _said(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return f"the certificate and the key cannot be used: {error.reason or error}"
    return f"{error.filename or 'a file'}: {error.strerror or error}"


def terminated(client: Any, context: ssl.SSLContext) -> Any:
    """Return at once the end that the worker serves; the handshake comes first.

    Where the worker closes its end, the client's connection ends too, before and after
    the handshake.
    """
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    worker, here = socket.socketpair()
    secure = context.wrap_socket(
        client, server_side=True, do_handshake_on_connect=False
    )
    gevent.spawn(_inwards, secure, here)
    gevent.spawn(_outwards, here, secure)
    return worker


def _inwards(secure: Any, here: Any) -> None:
    """Shake hands, then pass on what the client sends until it sends no more."""
    with contextlib.suppress(OSError):
        if not _shake_hands(secure):
            return
        while data := secure.recv(_CHUNK):
            here.sendall(data)  # fails where the worker reads no more
    with contextlib.suppress(OSError):
        here.shutdown(plain_socket.SHUT_WR)


def _shake_hands(secure: Any) -> bool:
    try:
        with gevent.Timeout(HANDSHAKE_SECONDS, TimeoutError()):
            secure.do_handshake()
    except OSError as error:
        if getattr(error, "reason", "") == "HTTP_REQUEST":
            _say_plainly(secure)
        log.debug("handshake_failed", fault=str(error))
        secure.close()
        return False
    return True


def _say_plainly(secure: Any) -> None:
    """Answer http at the address for https, and let the client read it."""
    below = secure._sock  # noqa: SLF001 - there is no TLS yet
    with contextlib.suppress(OSError), gevent.Timeout(_LAST_SECONDS, TimeoutError()):
        below.send(_PLAIN)
        below.shutdown(plain_socket.SHUT_WR)
        while True:  # a close with unread bytes would overtake the answer
            socket.wait_read(secure.fileno())
            if not below.recv(_CHUNK):
                return


def _outwards(here: Any, secure: Any) -> None:
    """Pass on what the worker answers until it closes, and then close."""
    with contextlib.suppress(OSError, ValueError):  # or there was no handshake
        while data := here.recv(_CHUNK):
            secure.sendall(data)
        # Says that nothing was cut off; the client's own word is not waited for.
        secure.setblocking(False)
        secure.unwrap()
    secure.close()
    here.close()
