"""Asks Prometheus which alerts fire, once for all concurrent callers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

from router.clients.prometheus import FiringAlert
from router.errors import PrometheusError


class Firing:
    """Answers each caller from a query that began after its call.

    A hundred concurrent notifications need two queries, one after the other.
    """

    def __init__(self, ask: Callable[[], Sequence[FiringAlert]]) -> None:
        self._ask = ask
        self._lock: AbstractContextManager[object] = threading.Lock()
        self._begun = 0
        self._answer: Sequence[FiringAlert] | PrometheusError = ()

    def __call__(self) -> Sequence[FiringAlert]:
        """Return the firing alerts. Raises PrometheusError."""
        begun = self._begun
        with self._lock:
            if self._begun == begun:
                self._begun += 1
                try:
                    self._answer = self._ask()
                except PrometheusError as error:
                    self._answer = error
            answer = self._answer
        if isinstance(answer, PrometheusError):
            raise answer
        return answer
