"""Hands the listening sockets of a running router to the one that comes after it.

Over a Unix socket in the state directory, which only the router's own user may use.
The sockets are shared, never opened anew: what clients have connected, and nobody has
accepted yet, waits for whoever accepts next, so that no connection is lost. Knows
neither slots nor streams; those come as plain numbers from who calls.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import gevent
import orjson

from router.logs.events import get_logger

NAME = "handover.sock"
_SOCKETS, _FINISH, _CEDE = "sockets", "finish", "cede"
_MOST_SOCKETS = 16
_MOST_BYTES = 1024 * 1024
_ANSWER_SECONDS = 60.0  # the other ends what it runs of jobs before it answers

log = get_logger("handover")


class HandoverError(Exception):
    """There is no router to take over from, or it ended."""


@dataclass(frozen=True, slots=True)
class HandoverReport:
    """What the router that leaves may use, by node, and how many wait there."""

    own: Mapping[str, int]
    waiting: int


@dataclass(frozen=True, slots=True)
class HandoverDuties:
    """What the router that leaves does.

    finish: stop accepting, and say what is in use; cede: may use so many more
    left:   the successor is gone
    """

    finish: Callable[[], HandoverReport]
    cede: Callable[[Mapping[str, int]], HandoverReport]
    left: Callable[[], None]


class HandoverServer:
    """Waits for a successor; `sockets` are descriptors of those that listen."""

    def __init__(
        self, folder: Path, sockets: Sequence[int], duties: HandoverDuties
    ) -> None:
        self._folder = folder
        self._sockets = sockets
        self._duties = duties
        self._server: socket.socket | None = None
        self._file: tuple[int, int] | None = None  # of our socket, by device and inode

    def start(self) -> None:
        """Listen from now on; a folder that takes no socket ends nothing."""
        try:
            server = _listening(self._folder)
        except OSError as error:
            log.warning("no_handover", path=str(self._folder), fault=str(error))
            return
        self._server, self._file = server, _file(self._folder)
        gevent.spawn(self._accept, server)

    def close(self) -> None:
        """Leave no name behind; one that another router has taken is not ours."""
        if self._server is not None:
            # Before it is closed: until then no other file can have its inode.
            if _file(self._folder) == self._file:
                (self._folder / NAME).unlink(missing_ok=True)
            self._server.close()
            self._server = None

    def _accept(self, server: socket.socket) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                peer, _ = server.accept()
                gevent.spawn(self._serve, peer)

    def _serve(self, peer: socket.socket) -> None:
        succeeded = False
        with peer, contextlib.suppress(OSError, HandoverError):
            for asked in _lines(peer):
                if asked["do"] == _SOCKETS:
                    socket.send_fds(peer, [b"\n"], list(self._sockets))
                elif asked["do"] == _FINISH:
                    succeeded = True
                    _send(peer, asdict(self._duties.finish()))
                else:
                    _send(peer, asdict(self._duties.cede(asked["slots"])))
        if succeeded:
            self._duties.left()
            self._begin_again()

    def _begin_again(self) -> None:
        """Be found by the next successor: the one that died had taken the name."""
        if self._server is not None:
            self._server.close()
        self.start()


class Predecessor:
    """The router that is taken over from. All methods raise HandoverError."""

    def __init__(self, folder: Path) -> None:
        self._peer = _connected(folder)
        self._lines = _lines(self._peer)

    def finish(self) -> HandoverReport:
        """Have it accept nothing more."""
        return self._ask({"do": _FINISH})

    def cede(self, slots: Mapping[str, int]) -> HandoverReport:
        """Let it use so many more slots, and hear what it uses."""
        return self._ask({"do": _CEDE, "slots": dict(slots)})

    def close(self) -> None:
        """End the conversation."""
        self._peer.close()

    def _ask(self, what: Mapping[str, Any]) -> HandoverReport:
        try:
            _send(self._peer, what)
            return HandoverReport(**next(self._lines))
        except (OSError, StopIteration) as error:
            raise HandoverError("the router before this one has ended") from error


def fetch(folder: Path) -> list[int]:
    """Return the descriptors on which the running router listens.

    Raises HandoverError.
    """
    with _connected(folder) as peer:
        try:
            _send(peer, {"do": _SOCKETS})
            _, found, _, _ = socket.recv_fds(peer, 1, _MOST_SOCKETS)
        except OSError as error:
            raise HandoverError(f"no sockets came: {error}") from error
    if not found:
        raise HandoverError("no sockets came")
    return list(found)


@contextlib.contextmanager
def _reachable(folder: Path) -> Iterator[str]:
    """Give the socket's path by a descriptor: a Unix socket's has 107 bytes at most."""
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{descriptor}/{NAME}"
    finally:
        os.close(descriptor)


def _listening(folder: Path) -> socket.socket:
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _reachable(folder) as path:
            (folder / NAME).unlink(missing_ok=True)
            server.bind(path)
        server.listen(4)
    except OSError:
        server.close()
        raise
    return server


def _file(folder: Path) -> tuple[int, int] | None:
    """Return which file has the socket's name now; None where there is none."""
    try:
        found = (folder / NAME).stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _connected(folder: Path) -> socket.socket:
    peer = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    peer.settimeout(_ANSWER_SECONDS)
    try:
        with _reachable(folder) as path:
            peer.connect(path)
    except OSError as error:
        peer.close()
        raise HandoverError(f"no router answers at {folder / NAME}") from error
    return peer


def _send(peer: socket.socket, what: Mapping[str, Any]) -> None:
    peer.sendall(orjson.dumps(what) + b"\n")


def _lines(peer: socket.socket) -> Iterator[Any]:
    """Yield documents, one a line, until the other end is gone."""
    data = b""
    while True:
        line, separator, rest = data.partition(b"\n")
        if separator:
            data = rest
            yield orjson.loads(line)
            continue
        piece = peer.recv(65_536)
        if not piece or len(data) > _MOST_BYTES:
            return
        data += piece
