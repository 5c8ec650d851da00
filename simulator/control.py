"""The control endpoint: shows the nodes and puts faults on them, JSON over HTTP.

GET    /nodes                        the state of all
GET    /nodes/{name}                 of one
POST   /nodes/{name}/faults          put one on: {"fault": "hot", "celsius": 96}
DELETE /nodes/{name}/faults[/fault]  take one off, or all

No page and no proxy may ask it, and nobody by another name than this machine's own. It
has no token: it breaks simulated nodes only.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence

from router.web.caller import is_loopback_name, name_of
from simulator import faults
from simulator.dialect import JSON, dumps
from simulator.faults import FaultError
from simulator.http import Reply, Request
from simulator.node import Node

_PAGES = ("origin", "sec-fetch-site")
_PROXIES = ("forwarded", "via", "x-real-ip")


class ControlError(Exception):
    """What whoever called hears."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


def _refuse_strangers(request: Request) -> None:
    """Raise ControlError for a web page, a name led here, or what a proxy passes on."""
    headers = request.headers
    name = name_of(headers.get("host", ""))
    if name and not is_loopback_name(name):
        raise ControlError(403, f"this is not asked by the name {name[:100]!r}")
    for header in headers:
        if header in _PAGES:
            raise ControlError(403, "no web page may ask this")
        if header in _PROXIES or header.startswith("x-forwarded"):
            raise ControlError(403, "no proxy may ask this")
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in {"", "application/json"}:
        raise ControlError(400, "a fault must be sent as application/json")


class Control:
    """The control port's app."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        self._nodes = {node.spec.name: node for node in nodes}
        self._tasks: set[asyncio.Task[None]] = set()

    def __call__(self, request: Request, reply: Reply) -> None:
        # Listening again is a coroutine; the loop keeps only weak references.
        task = asyncio.get_running_loop().create_task(self._answer(request, reply))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, request: Request, reply: Reply) -> None:
        try:
            body = await self._route(request)
        except ControlError as error:
            reply.send(error.status, dumps({"error": str(error)}), JSON)
        except OSError as error:  # the port of a node was taken meanwhile
            reply.send(500, dumps({"error": f"cannot listen: {error}"}), JSON)
        else:
            reply.send(200, dumps(body), JSON)

    async def _route(self, request: Request) -> object:
        _refuse_strangers(request)
        parts = request.path.removeprefix("/").split("/")
        match (request.method, *parts):
            case ("GET", "nodes"):
                return [node.state() for node in self._nodes.values()]
            case ("GET", "nodes", name):
                return self._node(name).state()
            case ("POST", "nodes", name, "faults"):
                return self._put(name, request.body)
            case ("DELETE", "nodes", name, "faults", *fault) if len(fault) <= 1:
                return await self._clear(name, fault)
        raise ControlError(404, f"no such call: {request.method} {request.path!r}")

    def _put(self, name: str, body: bytes) -> object:
        node = self._node(name)
        try:
            document = json.loads(body)
        except ValueError as error:
            raise ControlError(400, f"body: is no JSON: {error}") from error
        try:
            node.put(faults.parse(document))
        except FaultError as error:
            raise ControlError(400, str(error)) from error
        return node.state()

    async def _clear(self, name: str, fault: Sequence[str]) -> object:
        node = self._node(name)
        for each in fault:
            if each not in faults.NAMES:
                known = ", ".join(faults.NAMES)
                raise ControlError(400, f"fault: must be one of {known}, got {each!r}")
        for each in fault or faults.NAMES:
            await node.clear(each)
        return node.state()

    def _node(self, name: str) -> Node:
        node = self._nodes.get(name)
        if node is None:
            known = ", ".join(self._nodes)
            raise ControlError(404, f"node: must be one of {known}, got {name!r}")
        return node
