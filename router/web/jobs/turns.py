"""How many large requests and answers are under way at one time, of one kind."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from flask import Response

from router.errors import OverloadedError

View = Callable[..., Response]


class Turns:
    """Counts them; one more than `most` is answered 429.

    what: names them in the message
    """

    def __init__(self, most: int, what: str) -> None:
        self._most = most
        self._what = what
        self._taken = 0

    def for_request(self, view: View) -> View:
        """Count each call of a view until it returns: its body is large."""

        @wraps(view)
        def counted(*arguments: Any, **named: Any) -> Response:
            self._take()
            try:
                return view(*arguments, **named)
            finally:
                self._leave()

        return counted

    def for_answer(self, view: View) -> View:
        """Count each answer of a view until it is sent: its reader may be slow."""

        @wraps(view)
        def counted(*arguments: Any, **named: Any) -> Response:
            self._take()
            try:
                response = view(*arguments, **named)
            except BaseException:
                self._leave()
                raise
            response.call_on_close(self._leave)
            return response

        return counted

    def _take(self) -> None:
        if self._taken >= self._most:
            raise OverloadedError(
                f"{self._most} {self._what} are under way, the most there may be",
                retry_after_seconds=5,
            )
        self._taken += 1

    def _leave(self) -> None:
        self._taken -= 1
