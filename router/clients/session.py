"""HTTP with a service that may lie behind TLS, a login or a path, bounded as a whole.

For Prometheus and Alertmanager. No call is tried twice: who calls does so again in
its own time. Proxies of the environment are for the world and not used.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase

from router.config.access import authorization
from router.errors import innermost
from router.model import NO_ACCESS, Access

_CHUNK = 256 * 1024


class ServiceError(Exception):
    """A service did not answer, or not with JSON; the text says why."""


@dataclass(frozen=True, slots=True)
class Service:
    """A base URL, which may have a path, and how it is spoken with.

    An answer begins within `timeout_seconds`, and its body is complete within
    twice that; it has at most `most_bytes`.
    """

    url: str
    timeout_seconds: float
    access: Access = NO_ACCESS
    most_bytes: int = 64 * 1024 * 1024


def open_session(service: Service) -> requests.Session:
    """Open a session for everything under the service's URL."""
    session = requests.Session()
    session.trust_env = False
    session.auth = _FromFiles(service.access)
    if service.access.ca_file is not None:
        session.verify = str(service.access.ca_file)
    bound(session, service)
    return session


def bound(session: requests.Session, service: Service) -> None:
    """Bound every exchange under the service's URL in time and size."""
    session.mount(service.url, _Bounded(service.timeout_seconds, service.most_bytes))


def exchange(
    service: Service, method: str, path: str, *, body: object = None
) -> tuple[int, Any]:
    """Ask for JSON; the status and what came, text where an error is no JSON.

    Raises ServiceError.
    """
    try:
        with open_session(service) as session:
            url = f"{service.url}{path}"
            reply = session.request(method, url, json=body, allow_redirects=False)
        return reply.status_code, _content(reply)
    except OSError as error:  # requests' errors are of that kind
        raise ServiceError(reason(error)) from error


def reason(error: OSError) -> str:
    """Say what is at the bottom of the libraries' chain of errors."""
    cause = innermost(error)
    return str(cause)[:300] or type(cause).__name__


def _content(reply: requests.Response) -> Any:
    if not reply.content:
        return None
    try:
        return reply.json()
    except ValueError as error:
        if reply.ok:
            raise ServiceError(f"not JSON: {error}") from error
        return reply.text


class _FromFiles(AuthBase):
    """Adds what the files hold now."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        shown = authorization(self._access)
        if shown is not None:
            request.headers["Authorization"] = shown
        return request


class _Bounded(HTTPAdapter):
    """Bounds a whole answer in time and size.

    requests' own timeout starts anew with each read: a peer that drips a byte a
    second would hold the loop for ever.
    """

    def __init__(
        self,
        seconds: float,
        most_bytes: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(max_retries=urllib3.Retry(0))
        self._seconds = seconds
        self._most_bytes = most_bytes
        self._clock = clock

    def send(self, request: Any, *args: Any, **kwargs: Any) -> requests.Response:
        deadline = self._clock() + self._seconds
        kwargs["timeout"] = self._seconds
        response = super().send(request, *args, **kwargs)
        try:
            body = self._body(response.raw, deadline)
        except requests.RequestException:
            response.close()
            raise
        response.raw.release_conn()
        response.raw = io.BytesIO(body)
        return response

    def _body(self, raw: Any, deadline: float) -> bytes:
        body = bytearray()
        try:
            while chunk := raw.read1(_CHUNK, decode_content=True):
                body += chunk
                if self._clock() > deadline:
                    raise requests.ReadTimeout(f"not within {self._seconds} s")
                if len(body) > self._most_bytes:
                    raise requests.RequestException(
                        f"more than {self._most_bytes} bytes"
                    )
        except urllib3.exceptions.HTTPError as error:
            raise requests.ConnectionError(str(error)) from error
        return bytes(body)
