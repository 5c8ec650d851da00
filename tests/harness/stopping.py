"""What is stopped at the end of a `with`."""

from __future__ import annotations

import abc
from typing import Self


class Stopping(abc.ABC):
    """Runs from its making until `stop`."""

    @abc.abstractmethod
    def stop(self) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
