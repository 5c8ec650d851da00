"""The router's application, with a measure of how long its event loop is held.

gunicorn runs it in place of `router.wsgi:app`; whoever imports it starts a router. What
is written to the file is the most processor seconds between two turns of the loop: what
other programs of the machine take is not counted.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import gevent

from router.wsgi import app

__all__ = ["app"]

_FILE = "INFEROPS_TEST_MEASURE"
_TICK_SECONDS = 0.002


def _measure(path: Path) -> None:
    longest, written = 0.0, 0.0
    before = time.process_time()
    while True:
        gevent.sleep(_TICK_SECONDS)
        now = time.process_time()
        longest, before = max(longest, now - before), now
        if time.monotonic() - written > 0.5:
            written = time.monotonic()
            path.write_text(json.dumps({"longest": longest}))
            before = time.process_time()


if _FILE in os.environ:
    gevent.spawn_later(5.0, _measure, Path(os.environ[_FILE]))
