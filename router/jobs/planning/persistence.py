"""Stores learned lengths of answers over a restart, in a file replaced atomically."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson

from router.jobs.input.uploads import in_thread
from router.jobs.planning.length_predictor import LengthPredictor
from router.logs.events import get_logger
from router.runtime.whole_file import write_whole

_SCHEMA = 1

log = get_logger("jobs")


class PredictorPersistence:
    """Reads the file at start and writes it from time to time; it may be lost."""

    def __init__(self, path: Path, learned: LengthPredictor) -> None:
        self._path = path
        self._learned = learned
        self._written = b""

    def load(self) -> None:
        try:
            found: dict[str, Any] = orjson.loads(self._path.read_bytes())
            if found["schema"] != _SCHEMA:
                raise ValueError(f"schema {found['schema']!r}")  # noqa: TRY301
            self._learned.restore(found["lengths"])
        except FileNotFoundError:
            return
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            log.warning("not_recalled", file=self._path.name, why=repr(error))

    def save(self) -> None:
        """Write the state if it has changed, in a native thread."""
        data = orjson.dumps({"schema": _SCHEMA, "lengths": self._learned.state()})
        if data == self._written:
            return
        self._written = data
        try:
            in_thread(lambda: write_whole(self._path, data))
        except OSError as error:
            log.warning("not_kept", file=self._path.name, why=str(error))
