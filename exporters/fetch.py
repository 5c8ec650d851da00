"""One GET of a small document, bounded in time and size.

The only file that imports urllib3: the packages of requests beside it would be a
tenth of the exporter's memory. Follows no redirect and uses no proxy, so that a
probe reaches the target that was allowed and nothing else.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable
from http import HTTPStatus

from urllib3 import BaseHTTPResponse, PoolManager
from urllib3.exceptions import HTTPError

from exporters.access import NO_ACCESS, Access
from exporters.errors import BadAnswerError, NoAnswerError

Fetch = Callable[[str, float], object]  # (url, deadline) -> parsed JSON

MAX_BYTES = 16 * 2**20  # a library of 10,000 models is 4 MB


def get_json(url: str, deadline: float, access: Access = NO_ACCESS) -> object:
    """Return the parsed body; `deadline` is on the monotonic clock."""
    status, body = get(url, deadline, access)
    if status != HTTPStatus.OK:
        raise BadAnswerError(f"GET {url}: status {status}")
    try:
        return json.loads(body, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise BadAnswerError(f"GET {url}: not JSON: {body[:80]!r}") from error


def get(url: str, deadline: float, access: Access = NO_ACCESS) -> tuple[int, bytes]:
    """Return status and body, whatever they are; raises BackendError."""
    try:
        return _get(url, deadline, access)
    except (OSError, HTTPError, ValueError) as error:
        raise NoAnswerError(f"GET {url}: {_cause(error)}") from error


def _get(url: str, deadline: float, access: Access) -> tuple[int, bytes]:
    seconds = _remaining(deadline)
    fixed = {"Accept-Encoding": "identity", "Connection": "close"}
    with _pool(access) as pool:
        response = pool.request(
            "GET",
            url,
            timeout=seconds,
            retries=False,
            redirect=False,
            preload_content=False,
            headers=fixed | access.headers(),
        )
        with contextlib.closing(response):
            return response.status, _body(response, url, deadline)


def _pool(access: Access) -> PoolManager:
    if access.pin:
        return PoolManager(assert_fingerprint=access.pin, cert_reqs="CERT_NONE")
    return PoolManager(ca_certs=access.ca_file)


def _body(response: BaseHTTPResponse, url: str, deadline: float) -> bytes:
    # read1 returns after each read from the socket: a body that drips in is
    # dropped at the deadline, where read() would wait for its end.
    body = bytearray()
    while chunk := response.read1(65536, decode_content=False):
        body += chunk
        _remaining(deadline)
        if len(body) > MAX_BYTES:
            raise BadAnswerError(f"GET {url}: more than {MAX_BYTES} bytes")
    return bytes(body)


def _remaining(deadline: float) -> float:
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise TimeoutError("not within the deadline")
    return seconds


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


def _cause(error: BaseException) -> str:
    """Name the innermost cause: urllib3's own texts are two errors deep."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return str(error) or type(error).__name__
