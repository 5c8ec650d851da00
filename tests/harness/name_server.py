"""A DNS server of one's own, and how a process is made to ask it and no other."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import threading
from pathlib import Path

from tests.harness.stopping import Stopping

_PORT = 53  # the only one that resolv.conf knows
_A, _SUCCESS, _UNKNOWN = 1, 0x8580, 0x8583


class NoNamesError(Exception):
    """Why none can be had here."""


class NameServer(Stopping):
    """Answers with `addresses`, and not at all for who is in `hanging`.

    inside: what a process's argument list begins with to ask it; the names end in
            `.test`. Raises NoNamesError.
    """

    def __init__(self, folder: Path) -> None:
        self.addresses: dict[str, str] = {}
        self.hanging: set[str] = set()
        self.asked: list[str] = []
        pid = os.getpid()
        self._address = (f"127.77.{pid >> 8 & 255}.{pid & 255}", _PORT)
        file = folder / "resolv.conf"
        file.write_text(
            f"nameserver {self._address[0]}\noptions timeout:1 attempts:5\n"
        )
        mount = f'mount --bind {file} /etc/resolv.conf && exec "$@"'
        self.inside = ["unshare", "-m", "sh", "-c", mount, "sh"]
        try:
            if os.geteuid() != 0:
                raise NoNamesError("only root gives a process a resolv.conf")
            subprocess.run([*self.inside, "true"], check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise NoNamesError(f"no resolv.conf of one's own: {error}") from error
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(self._address)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._socket.sendto(b"", self._address)
        self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        while True:
            query, client = self._socket.recvfrom(512)
            if not query:
                return
            name, end = _name(query)
            self.asked.append(name)
            if name not in self.hanging:
                self._socket.sendto(self._answer(query, name, end), client)

    def _answer(self, query: bytes, name: str, end: int) -> bytes:
        (kind,) = struct.unpack_from("!H", query, end)
        address = self.addresses.get(name)
        found = address is not None and kind == _A
        flags = _SUCCESS if address else _UNKNOWN
        head = query[:2] + struct.pack("!5H", flags, 1, int(found), 0, 0)
        answer = head + query[12 : end + 4]
        if address and found:  # of the name in the question, for no time at all
            answer += struct.pack("!3HIH", 0xC00C, _A, 1, 0, 4)
            answer += socket.inet_aton(address)
        return answer


def _name(query: bytes) -> tuple[str, int]:
    """Return the name that is asked for, and where it ends."""
    labels, at = [], 12
    while size := query[at]:
        labels.append(query[at + 1 : at + 1 + size].decode())
        at += size + 1
    return ".".join(labels), at + 1
