"""A fleet of troubled nodes, and the proxies that are put before it."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import requests

from bench.peers import start_olla
from bench.proxies import Proxy, start_nginx, start_router
from bench.troubled_node import TroubledNode
from bench.troubles import MIXED, OTHER, PLAIN, TOOLS
from tests.harness.counting_model import MODELFILE, Shape, write_counting_model
from tests.harness.ollama import RealOllama
from tests.harness.ports import free_port

NODES, SLOTS = 3, 4
PROXIES = ("router", "olla", "nginx", "nginx, set for failures")
_SHAPES = {PLAIN: Shape(), OTHER: Shape(layers=2)}
_WITH_TOOLS = MODELFILE.replace(
    "{{{{ range .Messages }}}}",
    "{{{{ if .Tools }}}}{{{{ end }}}}{{{{ range .Messages }}}}"
    "{{{{ if .ToolCalls }}}} x {{{{ end }}}}",
)
_NGINX_SET = (
    "proxy_next_upstream error timeout http_500 http_502 http_503 http_504"
    " non_idempotent;"
)


class Fleet:
    """Three nodes with the same models; but one has another build of one of them."""

    def __init__(self, folder: Path, *, one_model: bool) -> None:
        self._stack = contextlib.ExitStack()
        settings = {"OLLAMA_MAX_LOADED_MODELS": "1"} if one_model else {}
        self.nodes: list[TroubledNode] = []
        for number in range(NODES):
            ollama = self._stack.enter_context(
                RealOllama(
                    folder / f"node-{number}-{one_model}",
                    models=_SHAPES,
                    cache=folder / "gguf",
                    slots=SLOTS,
                    settings=settings,
                )
            )
            weights = write_counting_model(folder / "gguf").resolve()
            text = _WITH_TOOLS.format(gguf=weights)
            ollama.create(TOOLS, text)
            ollama.create(MIXED, text if number else MODELFILE.format(gguf=weights))
            node = TroubledNode(ollama)
            self._stack.callback(node.stop)
            self.nodes.append(node)

    @property
    def ports(self) -> list[int]:
        return [node.port for node in self.nodes]

    def warm(self, model: str) -> None:
        """Load a model on every node, and forget what was asked."""
        for node in self.nodes:
            node.well()
            url = f"{node.ollama.url}/api/generate"
            body = {"model": model, "keep_alive": "1h"}
            requests.post(url, json=body, timeout=60).raise_for_status()
            node.asked.clear()
            node.crashes = 0

    def close(self) -> None:
        self._stack.close()


@contextlib.contextmanager
def proxied(name: str, nodes: Sequence[int]) -> Iterator[Proxy]:
    with tempfile.TemporaryDirectory() as made:
        folder, port = Path(made), free_port()
        if name == "router":
            proxy = start_router(folder, port, nodes, SLOTS)
        elif name == "olla":
            proxy = start_olla(folder, port, nodes)
        else:
            more = "client_max_body_size 64m; client_body_buffer_size 16m;"
            if name != "nginx":
                more += _NGINX_SET
            proxy = start_nginx(folder, port, nodes, more=more)
        try:
            yield proxy
        finally:
            proxy.process.stop()
