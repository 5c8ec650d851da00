"""The exporter's pages as a WSGI application."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs

from prometheus_client import CollectorRegistry, Metric, make_wsgi_app

from exporters import VERSION
from exporters.families import Family
from exporters.probe import Prober, RefusedError
from exporters.runner import Runner

Environ = dict[str, Any]
StartResponse = Callable[..., Any]

DEFAULT_TIMEOUT_SECONDS = 10.0  # Prometheus' own default
MAX_TIMEOUT_SECONDS = 120.0
MAX_REQUESTS = 40  # at once; as node_exporter's --web.max-requests

_TEXT = "text/plain; charset=utf-8"
_LANDING = b"""<!doctype html>
<title>InferOps exporter</title>
<h1>InferOps exporter</h1>
<ul>
<li><a href="/metrics">/metrics</a>: this machine
<li><a href="/probe?target=http://127.0.0.1:11434">/probe?target=URL</a>: any Ollama
<li><a href="/healthz">/healthz</a>
</ul>
"""


class App:
    """Routes one request; what it serves is collected for that request."""

    def __init__(self, runner: Runner, prober: Prober) -> None:
        self._runner = runner
        self._prober = prober
        self._free = threading.BoundedSemaphore(MAX_REQUESTS)

    def __call__(
        self, environ: Environ, start_response: StartResponse
    ) -> Iterable[bytes]:
        """Answer; `inferops.sending` is told when nothing but the reader is awaited."""
        page = self._page(environ, start_response)
        environ.get("inferops.sending", lambda: None)()
        return page

    def _page(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] not in {"GET", "OPTIONS"}:
            return _say(start_response, 405, "only GET")
        match environ["PATH_INFO"]:
            case "/healthz":
                return _page(start_response, _TEXT, b"ok\n")
            case "/":
                return _page(start_response, "text/html; charset=utf-8", _LANDING)
            case "/metrics" | "/probe":
                return self._collected(environ, start_response)
            case path:
                return _say(start_response, 404, f"no such page: {path!r}")

    def _collected(
        self, environ: Environ, start_response: StartResponse
    ) -> Iterable[bytes]:
        if not self._free.acquire(blocking=False):
            return _say(start_response, 503, f"{MAX_REQUESTS} scrapes under way")
        try:
            return _exposition(self._scrape(environ), environ, start_response)
        except RefusedError as error:
            return _say(start_response, error.status, str(error))
        finally:
            self._free.release()

    def _scrape(self, environ: Environ) -> list[Metric]:
        seconds = collection_seconds(environ)
        if environ["PATH_INFO"] == "/metrics":
            return [*self._runner.collect(seconds), _build_info()]
        query = parse_qs(environ.get("QUERY_STRING", ""), keep_blank_values=True)
        return self._prober.runner(query.get("target", [])).collect(seconds)


def collection_seconds(environ: Mapping[str, Any]) -> float:
    """Time to collect: Prometheus' scrape timeout, less the way back."""
    text = environ.get("HTTP_X_PROMETHEUS_SCRAPE_TIMEOUT_SECONDS", "")
    try:
        timeout = float(text)
    except ValueError:
        timeout = math.nan
    if not 0 < timeout < math.inf:
        timeout = DEFAULT_TIMEOUT_SECONDS
    timeout = min(timeout, MAX_TIMEOUT_SECONDS)
    return max(timeout - 0.5, timeout / 2)


class _Given:
    """Families that were collected already, as a registry wants them."""

    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> list[Metric]:
        return self._metrics


def _exposition(
    metrics: list[Metric], environ: Environ, start_response: StartResponse
) -> Iterable[bytes]:
    registry = CollectorRegistry(support_collectors_without_names=True)
    registry.register(_Given(metrics))
    pages: Iterable[bytes] = make_wsgi_app(registry)(environ, start_response)
    return pages


def _build_info() -> Metric:
    about = "The exporter's version."
    return Family.of("inferops_exporter_build_info", about, 1, version=VERSION).metric()


def _page(
    start_response: StartResponse, kind: str, body: bytes, status: int = 200
) -> list[bytes]:
    head = [("Content-Type", kind), ("Content-Length", str(len(body)))]
    start_response(f"{status} {HTTPStatus(status).phrase}", head)
    return [body]


def _say(start_response: StartResponse, status: int, text: str) -> list[bytes]:
    return _page(start_response, _TEXT, f"{text}\n".encode(), status)
