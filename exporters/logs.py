"""The exporter's log: one line of key=value for each event, to standard error.

On the standard library alone: structlog and what it imports are 10 MiB resident,
a sixth of what an exporter on a compute node may take.
"""

from __future__ import annotations

import logging
import sys
import time
from typing import Any


class Log:
    """Events with fields, in the manner of the router's own log."""

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)

    def info(self, event: str, **fields: Any) -> None:
        self._logger.info(event, extra={"fields": fields})

    def warning(self, event: str, **fields: Any) -> None:
        self._logger.warning(event, extra={"fields": fields})

    def error(self, event: str, **fields: Any) -> None:
        self._logger.error(event, extra={"fields": fields})


class _Logfmt(logging.Formatter):
    """timestamp=… level=… event=… and the fields, quoted where they must be."""

    def format(self, record: logging.LogRecord) -> str:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        fields = {
            "timestamp": f"{stamp}.{int(record.msecs):03}Z",
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        return " ".join(f"{key}={_quoted(value)}" for key, value in fields.items())


def _quoted(value: object) -> str:
    text = str(value).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    plain = text and not any(each in text for each in ' ="\\')
    return text if plain else f'"{text}"'


def get(name: str) -> Log:
    return Log(name)


def configure() -> None:
    """Write what is logged to standard error, from `info` on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Logfmt())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
