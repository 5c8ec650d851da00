"""The sandbox's program: answers questions from standard input until it is closed."""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

from router.errors import DatasetError, TemplateError
from router.jobs.input.preview import preview
from router.jobs.input.readers.compression import ZSTD
from router.jobs.input.rendering import Rendering
from router.jobs.input.sandbox.confinement import Confinement, heed_deadlines
from router.jobs.input.sandbox.frames import OUT_OF_MEMORY, Frame, Unpacker, packed
from router.jobs.input.scanning import scan

_PIECE_BYTES = 256 * 1024
_PARQUET = b"PAR1"


class _Answering:
    """Answers questions."""

    def __init__(self, confinement: Confinement) -> None:
        self._confinement = confinement
        self._rendering = Rendering()

    def answers(self, question: Frame) -> Iterator[Frame]:
        asked, body = question
        self._load(asked.get("path"))
        try:
            if asked["command"] == "preview":
                yield {"end": True}, preview(asked)
            elif asked["command"] == "scan":
                yield from scan(asked)
            else:
                yield self._rendering.render(asked, body)
        except DatasetError as error:
            yield {"fault": str(error), "param": "file"}, b""
        except TemplateError as error:
            yield {"fault": str(error), "param": "template"}, b""
        except OSError as error:
            why = f"it cannot be read: {error.strerror}"
            yield {"fault": why, "param": "file"}, b""

    def _load(self, path: str | None) -> None:
        """Load pyarrow for a file that needs it, without counting its memory."""
        if path is None or "pyarrow" in sys.modules or not _needs_arrow(Path(path)):
            return
        with self._confinement.loading():
            import pyarrow as pa  # noqa: PLC0415 - 60 MB, for these files only
            import pyarrow.parquet  # noqa: PLC0415

            pa.set_cpu_count(1)
            pa.set_io_thread_count(1)


def _needs_arrow(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(ZSTD)) in {_PARQUET, ZSTD}
    except OSError:
        return False


def _questions() -> Iterator[Frame]:
    unpacker = Unpacker()
    while data := os.read(0, _PIECE_BYTES):
        yield from unpacker.feed(data)


def main() -> None:
    """Answer until standard input is closed."""
    memory_bytes, cpu_seconds = json.loads(sys.argv[1])
    confinement = Confinement(memory_bytes, cpu_seconds)
    heed_deadlines()
    answering = _Answering(confinement)
    with os.fdopen(1, "wb") as out:
        try:
            for question in _questions():
                for head, body in answering.answers(question):
                    out.write(packed(head, body))
                    out.flush()
        except MemoryError:
            os._exit(OUT_OF_MEMORY)
        except BrokenPipeError:
            os._exit(0)  # nobody asks for more
        except Exception as error:  # noqa: BLE001 - a fault of ours; told without values
            places = traceback.format_list(traceback.extract_tb(error.__traceback__))
            out.write(packed({"bug": f"{type(error).__name__}\n{''.join(places)}"}))
