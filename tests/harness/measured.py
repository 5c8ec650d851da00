"""The router's application, with a measure of how long its event loop is held.

gunicorn runs it in place of `router.wsgi:app`; whoever imports it starts a router. What
is written to the file is the most processor seconds of the event loop's thread between
two switches of greenlets, or turns of the loop: what other threads and other programs
take is not counted. Removing the file starts the measure again.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import gevent
import greenlet

from router.wsgi import app
from tests.harness.loop_time import LoopTime

__all__ = ["app"]

_FILE = "INFEROPS_TEST_MEASURE"


def _write(path: Path) -> None:
    measure = LoopTime()
    greenlet.settrace(measure.switched)
    # The callbacks of one turn of the loop are one piece, those of many are not.
    turns = gevent.get_hub().loop.check()
    turns.start(measure.switched, "turn", ())
    while True:
        if not path.exists():
            measure.begin()
        part = path.with_suffix(".part")
        part.write_text(json.dumps({"longest": measure.longest}))
        part.replace(path)
        gevent.sleep(0.5)


if _FILE in os.environ:
    gevent.spawn_later(5.0, _write, Path(os.environ[_FILE]))
