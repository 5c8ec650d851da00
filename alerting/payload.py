"""Alertmanager's webhook body, version 4, as frozen values.

Unknown fields are let through: newer releases add some. Gives no meaning to
labels, and does no I/O.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
)
from pydantic_core import ErrorDetails

from alerting.errors import PayloadError, described

__all__ = ["Alert", "Notification", "Status", "parse"]

_MOST_FAULTS = 5  # named at a time; a forged body may have thousands


class Status(StrEnum):
    """Of an alert, and of a notification: firing when any of its alerts is."""

    FIRING = "firing"
    RESOLVED = "resolved"


def _status(value: object) -> object:
    # Strict mode takes no text for an enumeration, and lax mode takes too much.
    return Status(value) if isinstance(value, str) and value in set(Status) else value


_Status = Annotated[Status, BeforeValidator(_status)]
_Texts = Annotated[Mapping[str, str], AfterValidator(MappingProxyType)]


class _Frozen(BaseModel):
    model_config = ConfigDict(
        frozen=True, strict=True, extra="ignore", populate_by_name=True
    )


class Alert(_Frozen):
    """One alert of a notification. Act on its own status, never on the group's.

    starts_at, ends_at: as Alertmanager wrote them; (fingerprint, starts_at) says
    whether two notifications speak of the same firing
    """

    status: _Status
    labels: _Texts
    annotations: _Texts = Field(default_factory=dict, validate_default=True)
    starts_at: str = Field(validation_alias="startsAt", min_length=1)
    ends_at: str = Field(validation_alias="endsAt", default="")
    fingerprint: str = Field(min_length=1)


class Notification(_Frozen):
    """What Alertmanager posts: a group's alerts, firing and resolved mixed."""

    version: Literal["4"] = "4"
    status: _Status
    alerts: tuple[Alert, ...]


def parse(body: bytes | str) -> Notification:
    """Read a body; raises PayloadError with one line for each of the first faults."""
    try:
        return Notification.model_validate_json(body)
    except ValidationError as error:
        faults = error.errors(include_url=False)[:_MOST_FAULTS]
        raise PayloadError("\n".join(map(_line, faults))) from error


def _line(fault: ErrorDetails) -> str:
    # In these two cases the value is the whole body around the fault.
    whole = fault["type"] in {"json_invalid", "missing"}
    return f"webhook: {described(fault, value=not whole)}"
