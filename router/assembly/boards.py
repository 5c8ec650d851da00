"""Builds what `/boards` shows; a fault of it must not keep the router from serving."""

from __future__ import annotations

import time
from dataclasses import replace

from router.assembly.services import service
from router.clients.samples import SamplesClient
from router.config.settings import Config
from router.logs.events import get_logger
from router.web.boards import BoardContext
from router.web.boards.catalogue import BoardCatalogue, read
from router.web.boards.known import KnownValues

# People wait for a month of a large fleet; control has a limit of its own.
_SECONDS = 10.0
_MOST_BYTES = 8 * 1024 * 1024

log = get_logger("boards")


def build_boards(config: Config) -> BoardContext:
    """Read the boards, and connect them with Prometheus."""
    prometheus = service(config.prometheus)
    bounded = replace(prometheus, timeout_seconds=_SECONDS, most_bytes=_MOST_BYTES)
    samples = SamplesClient(bounded)
    known = KnownValues(samples, monotonic=time.monotonic, wall=time.time)
    return BoardContext(_catalogue(config), samples, known)


def _catalogue(config: Config) -> BoardCatalogue:
    folder = config.web.boards
    try:
        return read(folder)
    except (OSError, ValueError) as error:
        log.warning("boards_not_read", path=str(folder), fault=str(error))
        return BoardCatalogue()
