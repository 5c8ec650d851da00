"""The service level objectives, read from alerting/objectives.yml; no rules here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from alerting.errors import ObjectivesError, described

__all__ = ["FILE", "Objective", "Objectives", "read"]

FILE = Path(__file__).with_name("objectives.yml")

_Words = Annotated[str, StringConstraints(min_length=1, pattern=r"^[^{}\n]+$")]
_Query = Annotated[str, StringConstraints(min_length=1, pattern=r"\[5m\]")]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Objective(_Frozen):
    """One promise.

    name:      value of the label `slo`
    alert:     name of its two alerts, one a page, one a ticket
    objective: share of good events, below 1
    failing:   what bad events are, in the words of a message
    total, bad: PromQL, events per second over 5 min, one series without labels
    """

    name: str = Field(pattern=r"^[a-z][a-z_]*$")
    alert: str = Field(pattern=r"^([A-Z][a-z0-9]+)+$")
    objective: float = Field(gt=0, lt=1)
    failing: _Words
    total: _Query
    bad: _Query

    @property
    def budget(self) -> float:
        """Share of events that may be bad."""
        return round(1 - self.objective, 9)


class Objectives(_Frozen):
    """All of them. least_failures: fewer bad events in a window fire nothing."""

    least_failures: int = Field(ge=1)
    objectives: Annotated[list[Objective], Field(min_length=1)]

    @model_validator(mode="after")
    def _different(self) -> Objectives:
        for field in ("name", "alert"):
            values = [getattr(each, field) for each in self.objectives]
            repeated = sorted({v for v in values if values.count(v) > 1})
            if repeated:
                raise ValueError(f"each {field} must be given once, got {repeated!r}")
        return self


def read(path: Path = FILE) -> Objectives:
    """Read the file; raises ObjectivesError that names file, path and value."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ObjectivesError(f"{path}: cannot be read: {error}") from error
    except yaml.YAMLError as error:
        raise ObjectivesError(f"{path}: must be YAML, got {error}") from error
    try:
        return Objectives.model_validate(content)
    except ValidationError as error:
        faults = error.errors(include_url=False)
        lines = [f"{path}: {described(fault)}" for fault in faults]
        raise ObjectivesError("\n".join(lines)) from error
