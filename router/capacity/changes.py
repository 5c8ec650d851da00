"""Which nodes changed since somebody looked: for those who keep sums over the fleet."""

from __future__ import annotations

_MOST = 4096


class Changes:
    """Names of nodes in the order in which they changed; the newest are kept."""

    def __init__(self) -> None:
        self._names: list[str] = []
        self._dropped = 0

    @property
    def position(self) -> int:
        """Return where the next change will stand."""
        return self._dropped + len(self._names)

    def add(self, name: str) -> None:
        self._names.append(name)
        if len(self._names) > _MOST:
            half = _MOST // 2
            del self._names[:half]
            self._dropped += half

    def add_all(self) -> None:
        """Say that anything may have changed."""
        self._dropped = self.position + 1
        self._names.clear()

    def since(self, position: int) -> list[str] | None:
        """Return what changed since a position; None: anything may have."""
        start = position - self._dropped
        return self._names[start:] if start >= 0 else None
