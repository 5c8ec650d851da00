"""Reads a file in a process of its own, which a broken file may take down.

pyarrow is C++: some damaged files abort it, and with it the router and every stream.
So it runs apart, where its 60 MB end with it too. The parent reads a line of JSON for
each row, as it asks for rows.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import BinaryIO

import orjson
from gevent import monkey

from router.errors import DatasetError
from router.jobs.input.readers.rows import BadRow, Limits, Row

_CPU_SECONDS = 900  # a reader that spins is ended; rows that nobody asks for cost none
_PROGRAM = f"from {__name__} import main; main()"
_ROOT = Path(__file__).resolve().parents[4]
# For a native thread: gevent's own would wait for the child in the event loop.
_spawn = monkey.get_original("os", "posix_spawn")
_waitpid = monkey.get_original("os", "waitpid")


def read(path: Path, limits: Limits) -> Iterator[Row | BadRow]:
    """Yield each row. Raises DatasetError, also where the reader itself died."""
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as told:
        child = _start(path, limits, writing)
        ended = False
        try:
            for line in told:
                kind, *values = orjson.loads(line)
                if kind == "end":
                    ended = True
                    return
                yield _read(kind, values)
        finally:
            if not ended:
                os.kill(child, signal.SIGKILL)  # nobody asks for more, or it is dead
            _, status = _waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    raise DatasetError(f"the Parquet file is damaged: its reader died of it ({code})")


def _read(kind: str, values: list[object]) -> Row | BadRow:
    if kind == "fault":
        raise DatasetError(str(values[0]))
    made: Row | BadRow = (Row if kind == "row" else BadRow)(*values)  # type: ignore[arg-type]
    return made


def _start(path: Path, limits: Limits, writing: int) -> int:
    given = json.dumps(asdict(limits))
    try:
        pid: int = _spawn(
            sys.executable,
            [sys.executable, "-c", _PROGRAM, str(path), given],
            {**os.environ, "PYTHONPATH": str(_ROOT)},
            file_actions=[(os.POSIX_SPAWN_DUP2, writing, 1)],
        )
    finally:
        os.close(writing)
    return pid


def _tell(path: Path, limits: Limits, out: BinaryIO) -> None:
    from router.jobs.input.readers import parquet  # noqa: PLC0415 - only in this process

    try:
        for each in parquet.read(path, limits):
            if isinstance(each, Row):
                _write(out, "row", each.index, each.fields, each.line)
            else:
                _write(out, "bad", each.index, each.line, each.column, each.message)
        _write(out, "end")
    except DatasetError as error:
        _write(out, "fault", str(error))


def _write(out: BinaryIO, *values: object) -> None:
    out.write(orjson.dumps(values) + b"\n")


def main() -> None:
    path, limits = sys.argv[1:]
    resource.setrlimit(resource.RLIMIT_CPU, (_CPU_SECONDS, _CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _tell(Path(path), Limits(**json.loads(limits)), sys.stdout.buffer)
