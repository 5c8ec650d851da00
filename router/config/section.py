"""Declares single settings: type, limits and description.

Values are strict and frozen; `router.config.yaml` words the faults.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
)
from pydantic.fields import FieldInfo

DAY = 86400


def _path(value: object) -> object:
    if isinstance(value, Path):
        return value
    if not isinstance(value, str):
        raise ValueError("must be a path")  # noqa: TRY004  pydantic collects these
    if not value:
        raise ValueError("must not be empty")
    return Path(value)


def _path_or_none(value: object) -> object:
    return None if value is None else _path(value)


RequiredPath = Annotated[Path, BeforeValidator(_path)]
OptionalPath = Annotated[Path | None, BeforeValidator(_path_or_none)]


def setting(
    default: object, meaning: str, *, restart: bool = False, **limits: Any
) -> Any:
    """Declare a setting; `restart`: it is read only at start, not on a reload."""
    return Field(
        default=default,
        description=meaning,
        json_schema_extra={"restart": restart},
        **limits,
    )


def seconds(
    default: float, meaning: str, *, longest: float = DAY, restart: bool = False
) -> Any:
    return setting(default, meaning, restart=restart, gt=0, le=longest)


def above(other: str) -> AfterValidator:
    """Accept what is greater than another setting of the section."""

    def check(value: float, info: ValidationInfo) -> float:
        least = info.data.get(other)  # absent when it is itself at fault
        if least is not None and value <= least:
            raise ValueError(f"must be > {other} ({least:g})")
        return value

    return AfterValidator(check)


def at_least(other: str) -> AfterValidator:
    """Accept what is not less than another setting of the section."""

    def check(value: int, info: ValidationInfo) -> int:
        least = info.data.get(other)
        if least is not None and value < least:
            raise ValueError(f"must be >= {other} ({least})")
        return value

    return AfterValidator(check)


def one_of(names: Iterable[str], old: Mapping[str, str]) -> BeforeValidator:
    """Accept these names only; an old name is replaced by its new one."""
    known = tuple(names)

    def check(value: object) -> object:
        if isinstance(value, str) and old.get(value, value) in known:
            return old.get(value, value)
        first, last = ", ".join(map(repr, known[:-1])), repr(known[-1])
        raise ValueError(f"must be {first} or {last}")

    return BeforeValidator(check)


class Section(BaseModel):
    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        validate_default=True,  # a default may contradict what another was set to
    )


def needs_restart(field: FieldInfo) -> bool:
    extra = field.json_schema_extra
    return isinstance(extra, dict) and extra.get("restart") is True
