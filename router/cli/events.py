"""Server-sent events out of lines; pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import orjson


@dataclass(frozen=True, slots=True)
class ServerEvent:
    kind: str
    data: dict[str, Any]


def events(lines: Iterable[bytes]) -> Iterator[ServerEvent]:
    """Yield each whole event; comments and what is cut off are none."""
    kind = "message"
    data: list[bytes] = []
    for line in lines:
        if not line:
            if data:
                yield ServerEvent(kind, orjson.loads(b"\n".join(data)))
            kind, data = "message", []
            continue
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"event":
            kind = value.decode()
        elif name == b"data":
            data.append(value)
