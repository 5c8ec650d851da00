"""What can be wrong with what alerting reads: its files, and what is posted to it."""

from __future__ import annotations

from pydantic_core import ErrorDetails

_SHOWN = 80  # characters of a rejected value


class RenderError(Exception):
    """The text is `file: path: what, got value`, and never shows a secret."""


class ObjectivesError(Exception):
    """The text is `file: path: what, got value`, one line for each fault."""


class PayloadError(ValueError):
    """The body is no notification; the text is `webhook: path: what, got value`."""


def described(fault: ErrorDetails, *, value: bool = True) -> str:
    """Return `path: what, got value` of a fault, or that without the value."""
    path = ""
    for part in fault["loc"]:
        path += f"[{part}]" if isinstance(part, int) else f".{part}"
    where = f"{path.lstrip('.')}: " if path else ""
    text = f"{where}{fault['msg'][:1].lower()}{fault['msg'][1:]}"
    if not value:
        return text
    shown = repr(fault["input"])
    return f"{text}, got {shown if len(shown) <= _SHOWN else f'{shown[:_SHOWN]}…'}"
