"""gunicorn's settings: one gevent worker, which owns all of the router's state.

Read before the fork. A faulty configuration ends the start here, with every
fault on a line of its own, instead of in a worker that is started for ever.
"""

from __future__ import annotations

import gc
import os
import sys
from pathlib import Path
from typing import Any

from router.access.exposure import BIND
from router.logs.events import configure, get_logger, write_behind
from router.server.arbiter import refuse_second_worker
from router.server.file_limit import connections_within
from router.server.preflight import ask
from router.server.tls import FILES_EACH
from router.server.worker import (
    MAX_HEADER_BYTES,
    MAX_HEADERS,
    MAX_REQUEST_LINE_BYTES,
)

# The router's own deadline comes first, so that streams end with a frame.
_MARGIN_SECONDS = 3

CONFIG = Path(os.environ.get("INFEROPS_CONFIG", "router/router.yml"))

# Prompts, results, tokens: what the router writes is for its own user alone. gunicorn's
# own `umask` is that of a Unix socket only.
os.umask(0o077)

_start = ask(CONFIG, os.environ)
configure(_start)

bind = [os.environ.get("INFEROPS_BIND", BIND), *filter(None, [_start.tls_address])]
worker_class = "router.server.worker.Worker"
workers = 1
# The longest idle makes room for one more; where all are busy, one more is refused.
worker_connections = connections_within(
    _start.connections,
    _start.open_files,
    get_logger("start"),
    files_each=FILES_EACH if _start.tls_address else 1,
)
# The heartbeat runs in the event loop; a block as long as this ends the worker.
timeout = 120
graceful_timeout = int(_start.grace_seconds) + _MARGIN_SECONDS
# Idle connections of clients' pools; httpx keeps its own for 5 s.
keepalive = 15
preload_app = False
# Its heartbeat's file needs no disk, which may be full or read-only.
worker_tmp_dir = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108
control_socket_disable = True
limit_request_line = MAX_REQUEST_LINE_BYTES
limit_request_field_size = MAX_HEADER_BYTES
limit_request_fields = MAX_HEADERS
# Nobody's headers say who asks or by which scheme; a request's SCRIPT_NAME would be
# believed from loopback, and answered 500 where the path does not begin with it.
forwarded_allow_ips = ""
forwarder_headers = ""
http_parser = "python"  # the one that router/server/worker.py was written against
accesslog = None
errorlog = "-"
loglevel = "warning"
proc_name = "inferops-router"


def on_starting(arbiter: Any) -> None:
    """Keep gunicorn from ever running a second worker, and from waiting for its log."""
    write_behind()
    refuse_second_worker(arbiter, get_logger("master"))


def pre_fork(_arbiter: Any, _worker: Any) -> None:
    """Leave what is there to both: a collection would write to each object's page."""
    gc.freeze()


def post_worker_init(worker: Any) -> None:
    """Hand the worker to the application, which ends streams when it stops."""
    from router import wsgi  # noqa: PLC0415 - must be imported after the fork

    wsgi.router.attend(worker)
    # Found as plain attributes; gunicorn looks some forty up for each request.
    settings = worker.cfg.settings.items()
    vars(worker.cfg).update({name: setting.get() for name, setting in settings})


def worker_exit(_arbiter: Any, _worker: Any) -> None:
    """Save what was counted: with no client there, the worker waits for nobody."""
    if wsgi := sys.modules.get("router.wsgi"):
        wsgi.router.close()
