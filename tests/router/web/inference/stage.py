"""A router that is built and not started, and a node that answers as a test says.

Both are in this process and speak over real sockets: the node's is a gevent server,
the client's connection is served by gunicorn's own parser and response, as the router's
worker does it. Nothing polls: what nodes hold is published by hand.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace

import gevent
from gevent import socket
from gevent.server import StreamServer
from gunicorn.config import Config

from router.assembly.build import build_router
from router.model import Score
from router.server.body_pace import BodyPace
from router.server.response import ClientConnection, serve
from router.server.worker import BoundedParser, SocketReader
from router.snapshot import NodeView, PresentModel, ResidentModel, Snapshot
from tests.harness.process import ROOT

MODEL = "m:latest"
WAIT_SECONDS = 10


def line(text: str = "", **more: object) -> bytes:
    """Return one line of a chat's stream, as Ollama writes it."""
    message = {"role": "assistant", "content": text}
    told = {"model": "m", "created_at": "2026-11-30T09:00:00Z", "message": message}
    return json.dumps({**told, "done": False, **more}).encode() + b"\n"


DONE = line(done=True, done_reason="stop", eval_count=2, eval_duration=1_000_000)


def chunks(pieces: Iterable[bytes], kind: str = "application/x-ndjson") -> bytes:
    """Return a whole reply, each piece a chunk of its own."""
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked"
    framed = [b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces]
    return b"".join([head.encode(), b"\r\n\r\n", *framed, b"0\r\n\r\n"])


def plain(status: str, body: object) -> bytes:
    data = json.dumps(body).encode()
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json"
    return f"{head}\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data


class Cut(bytes):
    """A reply behind which the node closes the connection."""


class PlayedNode:
    """Answers each request by the next of `replies`, the last one again and again."""

    def __init__(self, *replies: bytes) -> None:
        self.replies = list(replies)
        self.asked: list[bytes] = []
        self._server = StreamServer(("127.0.0.1", 0), self._serve)
        self._server.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.stop(timeout=1)

    def _serve(self, client: socket.socket, _address: object) -> None:
        with client.makefile("rb") as stream:
            while head := _head(stream):
                self.asked.append(stream.read(int(head.get("content-length", 0))))
                again = len(self.replies) == 1
                reply = self.replies[0] if again else self.replies.pop(0)
                client.sendall(reply)
                if isinstance(reply, Cut):
                    return


def _head(stream) -> dict[str, str]:
    head = {"request": stream.readline().decode()}
    if not head["request"]:
        return {}
    while field := stream.readline().strip().decode():
        name, _, value = field.partition(":")
        head[name.lower()] = value.strip()
    return head


class Stage:
    """One router over some nodes; `post` is a client."""

    def __init__(self, folder: Path, nodes: dict[str, PlayedNode], settings: str = ""):
        self.nodes = nodes
        targets = [
            {
                "targets": [f"{name}.invalid:9400"],  # exporters; nobody asks them
                "labels": {"node": name, "__ollama": node.url},
            }
            for name, node in nodes.items()
        ]
        (folder / "nodes.yml").write_text(json.dumps(targets))
        (folder / "router.yml").write_text(
            f"inventory: {{path: {folder}/nodes.yml}}\n"
            f"signals: {{path: {ROOT}/router/signals.yml}}\n"
            f"state: {{directory: {folder}/state}}\n"
            f"access: {{keys: 'off'}}\n{settings}"
        )
        self.router = build_router(folder / "router.yml", {})
        self.publish(nodes)
        self._worker = SimpleNamespace(
            wsgi=self.router.web.app, cfg=Config(), alive=True
        )

    def publish(self, names: Iterable[str]) -> None:
        """Say that these nodes are there and have the model loaded."""
        base = self.router.base
        views = {}
        for node in base.inventory.nodes:
            if node.name in names:
                views[node.name] = NodeView(
                    node,
                    Score(0.9),
                    version="0.17.4",
                    present={MODEL: PresentModel(MODEL, "d", 1)},
                    resident={MODEL: ResidentModel(MODEL, "d", 1, 1, {})},
                )
        base.published.publish(Snapshot(views, made_at=time.monotonic()))

    def post(
        self,
        path: str,
        fields: dict[str, object],
        *headers: str,
        around: Callable[[Callable[[], None]], None] = lambda call: call(),
    ) -> Answered:
        """Send one request and read to the end of its answer.

        around: called with what serves it, in the greenlet that does
        """
        body = json.dumps(fields).encode()
        head = [f"POST {path} HTTP/1.1", "Host: localhost", *headers]
        head += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
        ours, theirs = socket.socketpair()
        with ours, theirs, gevent.Timeout(WAIT_SECONDS):
            theirs.sendall("\r\n".join([*head, "", ""]).encode() + body)
            served = gevent.spawn(around, lambda: self._serve(ours))
            served.get()
            ours.shutdown(socket.SHUT_WR)
            with theirs.makefile("rb") as stream:
                return Answered(stream.read())

    def _serve(self, ours: socket.socket) -> None:
        source = SocketReader(ours, self.router.base.bodies)
        parser = BoundedParser(self._worker.cfg, ours, ("127.0.0.1", 1))
        parser.unreader = source
        source.read_head(WAIT_SECONDS)
        source.pace = BodyPace(time.monotonic(), WAIT_SECONDS)
        name, peer = ("127.0.0.1", 8000), ("127.0.0.1", 1)
        serve(self._worker, next(parser), ClientConnection(ours, peer, name, "http"))
        source.release()

    def close(self) -> None:
        self.router.dispatch.backends.close()
        self.router.jobs.service.stop()
        self.router.base.health.stop()
        for node in self.nodes.values():
            node.close()


class Answered:
    """An answer, taken apart."""

    def __init__(self, data: bytes) -> None:
        head, _, body = data.partition(b"\r\n\r\n")
        status, *fields = head.decode().split("\r\n")
        self.status = int(status.split()[1])
        self.headers = dict(field.split(": ", 1) for field in fields)
        chunked = self.headers.get("Transfer-Encoding") == "chunked"
        self.body = b"".join(_pieces(body)) if chunked else body

    @property
    def lines(self) -> list[dict]:
        return [json.loads(each) for each in self.body.splitlines() if each]

    @property
    def text(self) -> str:
        return "".join(each["message"]["content"] for each in self.lines)


def _pieces(body: bytes) -> Iterable[bytes]:
    while body:
        size, _, rest = body.partition(b"\r\n")
        length = int(size, 16)
        yield rest[:length]
        body = rest[length + 2 :]
