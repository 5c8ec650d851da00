"""Reads tokens from their files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from router.config.files import read_text
from router.errors import UnavailableError
from router.runtime.threads import DISK


def token_reader(path: Path | None) -> Callable[[], str | None]:
    """Read a token at each use, so that a rotated one needs no restart.

    A token that is configured and cannot be read opens nothing: UnavailableError.
    """

    def read() -> str | None:
        if path is None:
            return None
        try:
            token = DISK(lambda: read_text(path)).strip()
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or "it is not text"
            raise UnavailableError(
                f"token file {path.name!r} cannot be read: {why}"
            ) from error
        if not token:
            raise UnavailableError(f"token file {path.name!r} is empty")
        return token

    return read
