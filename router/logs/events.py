"""Structured logs on stderr: one line for each event, logfmt or JSON.

What arises within a request names its `request_id`, and nothing else does. Secrets
are hidden here as a last resort; nobody should pass one. Prompts and replies are
never logged.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sys
from collections.abc import Callable, Mapping, MutableMapping
from datetime import UTC, datetime
from typing import Any, Protocol, cast

import orjson

from router.logs.redaction import HIDDEN, plain, scrub, secret_name
from router.logs.writer import LineStream, LogWriter

# structlog loads rich where it is installed, for a renderer that is not used here:
# 6 MiB in the router, whose command line alone has a use for it.
_rich = sys.modules.get("rich")
sys.modules["rich"] = None  # type: ignore[assignment]
import structlog  # noqa: E402

del sys.modules["rich"]
if _rich is not None:
    sys.modules["rich"] = _rich

Logger = structlog.typing.FilteringBoundLogger
Event = MutableMapping[str, Any]

_STDERR = 2
_MOST_CHARACTERS = 8000  # of one value; a traceback has some thousands
_MOST_PLAIN = 100  # characters that need no quotes
_ODD = re.compile(r"[^\w.:/@+-]")
_LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}


class LogSettings(Protocol):
    """The section `log` of the configuration, or what stands in for it."""

    @property
    def level(self) -> str: ...

    @property
    def format(self) -> str: ...


def get_logger(area: str) -> Logger:
    """Return the logger of one part; cheap to keep in a module or an object."""
    return cast("Logger", structlog.get_logger(area=area))


writer = LogWriter(_STDERR)
_behind = False


def write_stderr(line: bytes) -> None:
    """Write one line; behind the caller's back once `write_behind` was called.

    A log that cannot be written (closed pipe, full disk) must fail no request.
    """
    if _behind:
        writer(line)
        return
    with contextlib.suppress(OSError):
        while line:
            line = line[os.write(_STDERR, line) :]


def write_behind() -> None:
    """Have nothing in this process wait for who reads its log; see `LogWriter`.

    Tracebacks, warnings and gunicorn's own lines go the same way.
    """
    global _behind  # noqa: PLW0603 - there is one stderr
    _behind = True
    writer.on_drop_end = _tell_dropped
    sys.stderr = LineStream(writer)
    logging.getLogger("gunicorn.error").handlers[:] = [_Bridge()]


def _tell_dropped(count: int) -> None:
    get_logger("log").warning("log_lines_dropped", count=count)


def configure(
    settings: LogSettings, write: Callable[[bytes], object] = write_stderr
) -> None:
    """Set up logging for the process; again after a reload to change the level."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="ts"),
            structlog.processors.format_exc_info,
            hide_secrets,
            _renderer(settings.format),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[settings.level]),
        logger_factory=lambda *_: _Lines(write),
        # Loggers are kept by modules; a changed level must reach them.
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(level=logging.WARNING, handlers=[_Bridge()], force=True)


def hide_secrets(_logger: object, _method: str, event: Event) -> Event:
    """Hide what a field's name or a text's shape gives away as a secret."""
    return {name: _hidden(name, value) for name, value in event.items()}


def _hidden(name: str, value: object) -> object:
    if secret_name(name):
        return HIDDEN
    if isinstance(value, Mapping):
        return {_safe(str(key)): _hidden(str(key), each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_hidden("", each) for each in value]
    if value is None or isinstance(value, bool | int | float):
        return value
    return _safe(str(value))


def _renderer(form: str) -> Callable[[object, str, Event], bytes]:
    if form == "json":
        return lambda _logger, _method, event: orjson.dumps(event, default=str) + b"\n"
    logfmt = structlog.processors.LogfmtRenderer(
        key_order=["ts", "level", "area", "event"],
        drop_missing=True,
        bool_as_flag=False,
    )
    return lambda logger, method, event: f"{logfmt(logger, method, event)}\n".encode()


class RequestLog:
    """The one line that each request leaves, as the rest looks but made by hand.

    It is written thousands of times a second; through structlog it cost an eighth
    of a request. Only text that a client chose is checked for what it contains.
    """

    def __init__(
        self,
        settings: Callable[[], LogSettings],
        write: Callable[[bytes], object] = write_stderr,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._settings = settings
        self._write = write
        self._clock = clock

    def __call__(self, fields: Mapping[str, str | int | float]) -> None:
        """Write the values, in their order, at level info."""
        settings = self._settings()
        if _LEVELS[settings.level] > logging.INFO:
            return
        at = self._clock().isoformat().removesuffix("+00:00") + "Z"
        if settings.format == "json":
            reported = {
                name: _safe(value) if isinstance(value, str) else value
                for name, value in fields.items()
            }
            head = {"ts": at, "level": "info", "area": "request", "event": "request"}
            self._write(orjson.dumps(head | reported) + b"\n")
            return
        values = [str(value) for value in fields.values()]
        # Mostly none is to be quoted: one search says so of all.
        if _ODD.search("".join(values)) or max(map(len, values)) > _MOST_PLAIN:
            values = [each if _is_plain(each) else _quoted(each) for each in values]
        text = "".join([f" {n}={v}" for n, v in zip(fields, values, strict=True)])
        line = f"ts={at} level=info area=request event=request{text}\n"
        self._write(line.encode())


def _is_plain(text: str) -> bool:
    return len(text) <= _MOST_PLAIN and _ODD.search(text) is None


def _safe(text: str) -> str:
    """Make a text that others may have written fit for a line and a terminal."""
    if len(text) > _MOST_CHARACTERS:
        text = f"{text[:_MOST_CHARACTERS]}..."
    return plain(scrub(text))


def _quoted(value: object) -> str:
    return orjson.dumps(_safe(str(value))).decode()


class _Lines:
    """What structlog calls with a finished line."""

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self._write = write

    def msg(self, line: bytes) -> None:
        self._write(line)

    debug = info = warning = error = critical = msg


class _Bridge(logging.Handler):
    """Brings warnings of third parties (APScheduler, urllib3) into the same lines."""

    def emit(self, record: logging.LogRecord) -> None:
        get_logger(record.name).log(
            record.levelno, record.getMessage(), exc_info=record.exc_info
        )
