"""Reads `signals.yml`: the signals that make a node's score.

Only the form is checked here. Prometheus checks the expressions; a signal that it
rejects counts as missing.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, ValidationInfo, field_validator

from router.config import yaml as document
from router.config.section import Section
from router.config.yaml import YamlFault
from router.model import Missing, Signal

_Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$", max_length=63)]


class SignalEntry(Section):
    """One entry of `signals:`."""

    name: _Name = Field(description="its name in metrics and in explanations")
    query: str = Field(
        description="PromQL that yields one series for each `node`"
        " (write `by (node)`); vocabulary series and the router's gauges only"
    )
    weight: float = Field(gt=0, le=1000, description="its share in the score")
    worst: float = Field(description="the reading that counts 0")
    best: float = Field(description="the reading that counts 1; may be below `worst`")
    missing: Literal["neutral", "worst"] = Field(
        default="neutral",
        description="what no reading means: left out of the score, or 0",
    )

    @field_validator("query")
    @classmethod
    def _not_blank(cls, value: str) -> str:
        if not value.strip():
            raise ValueError("must not be empty")
        return value.strip()

    @field_validator("best")
    @classmethod
    def _apart(cls, value: float, info: ValidationInfo) -> float:
        if value == info.data.get("worst"):
            raise ValueError("must differ from worst")
        return value

    def signal(self) -> Signal:
        return Signal(
            self.name,
            self.query,
            self.weight,
            self.worst,
            self.best,
            Missing(self.missing),
        )


class _File(Section):
    signals: list[SignalEntry] = Field(min_length=1, max_length=100)


def parse_signals(text: str, *, source: str = "signals.yml") -> tuple[Signal, ...]:
    """Read the text of `signals.yml`; raises ConfigError with every fault."""
    file, faults = document.check(_File, document.parse(text, source))
    if file is None:
        raise document.rejected(source, faults)
    first: dict[str, int] = {}
    repeated = [
        YamlFault(
            ("signals", index, "name"),
            f"must be unique, is also signals[{first[entry.name]}]'s",
            entry.name,
        )
        for index, entry in enumerate(file.signals)
        if first.setdefault(entry.name, index) != index
    ]
    if repeated:
        raise document.rejected(source, repeated)
    return tuple(entry.signal() for entry in file.signals)
