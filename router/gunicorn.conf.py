"""gunicorn's settings: one gevent worker, which owns all of the router's state.

Read before the fork. A faulty configuration ends the start here, with every
fault on a line of its own, instead of in a worker that is started for ever.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

from router.errors import ConfigError
from router.logs import configure, get_logger
from router.reload import open_files

# The router's own deadline comes first, so that streams end with a frame.
_MARGIN_SECONDS = 3

CONFIG = Path(os.environ.get("INFEROPS_CONFIG", "router/router.yml"))

try:
    _files = open_files(CONFIG, os.environ, get_logger("start"), time.time())
except ConfigError as error:
    sys.stderr.write(f"the router cannot start:\n{error}\n")
    sys.exit(2)
configure(_files.config.value.log)

bind = os.environ.get("INFEROPS_BIND", "127.0.0.1:8000")
worker_class = "router.gunicorn_worker.Worker"
workers = 1
worker_connections = 10_000
# The heartbeat runs in the event loop; a block as long as this ends the worker.
timeout = 120
graceful_timeout = int(_files.config.value.shutdown.grace_seconds) + _MARGIN_SECONDS
# Idle connections of clients' pools; httpx keeps its own for 5 s.
keepalive = 15
preload_app = False
control_socket_disable = True
accesslog = None
errorlog = "-"
loglevel = "warning"
proc_name = "inferops-router"


def post_worker_init(worker: Any) -> None:
    """Hand the worker to the application, which ends streams when it stops."""
    from router import wsgi  # noqa: PLC0415 - must be imported after the fork

    wsgi.router.attend(worker)
