"""Reads the terms of a reducer: known names, types and ranges."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from router.errors import ReducerError


class Spec:
    """Reads fields one by one; `close` refuses the rest."""

    def __init__(self, given: Mapping[str, object]) -> None:
        self._left: dict[str, Any] = dict(given)
        self.kind = self._left.pop("kind", None)

    def text(self, name: str, default: str, longest: int) -> str:
        value = self._left.pop(name, None)
        if value is None:
            return default
        if not isinstance(value, str) or len(value) > longest:
            raise ReducerError(
                f"reducer.{name}: must be a text of at most {longest} characters,"
                f" got {str(value)[:40]!r}"
            )
        return value

    def number(self, name: str, default: int, lowest: int, highest: int) -> int:
        value = self._left.pop(name, None)
        if value is None:
            return default
        whole = isinstance(value, int) and not isinstance(value, bool)
        if not whole or not lowest <= value <= highest:
            raise ReducerError(
                f"reducer.{name}: must be a whole number from {lowest} to {highest},"
                f" got {str(value)[:40]!r}"
            )
        return int(value)

    def close(self) -> None:
        """Raise ReducerError if a field was not read."""
        if self._left:
            name = min(self._left)
            raise ReducerError(f"reducer.{name}: reducer {self.kind!r} has no {name!r}")
