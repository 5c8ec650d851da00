"""The faults that can be put on a node, as the control endpoint reads them."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

RUNNER_DIED = (
    "model runner has unexpectedly stopped, this may be due to resource limitations"
    " or an internal error, check ollama server logs for details"
)
"""Ollama 0.17's own words for a runner that is gone."""


class FaultError(Exception):
    """A fault that cannot be put on a node: path, what is wrong, and the value."""


class Fault(BaseModel):
    """What all faults share."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Hot(Fault):
    """GPUs near `celsius` within some `seconds`; 0: at once."""

    fault: Literal["hot"]
    celsius: float = Field(default=96.0, ge=0, le=200)
    seconds: float = Field(default=0.0, ge=0, le=3600)
    gpu: int | None = Field(default=None, ge=0)


class Ecc(Fault):
    """Uncorrectable memory errors since the last reset."""

    fault: Literal["ecc"]
    count: int = Field(default=1, ge=1, le=1_000_000)
    gpu: int | None = Field(default=None, ge=0)


class Xid(Fault):
    """The driver reported an XID; 79 is a GPU that fell off the bus."""

    fault: Literal["xid"]
    code: int = Field(default=79, ge=1, le=999)
    count: int = Field(default=1, ge=1, le=1_000_000)
    gpu: int | None = Field(default=None, ge=0)


class Hang(Fault):
    """Connections are accepted and nothing is answered; streams stand still."""

    fault: Literal["hang"]
    metrics: bool = False  # hang /metrics too


class Slow(Fault):
    """The node runs `factor` times slower."""

    fault: Literal["slow"]
    factor: float = Field(default=4.0, gt=0, le=1000)


class Refuse(Fault):
    """Nothing listens any more, as after the process died.

    reset: cut the streams under way too
    """

    fault: Literal["refuse"]
    reset: bool = False


class Error(Fault):
    """Inference is answered with an error; `times`: so many requests, then no more."""

    fault: Literal["error"]
    status: int = Field(default=500, ge=400, le=599)
    text: str = Field(default=RUNNER_DIED, max_length=4096)
    times: int | None = Field(default=None, ge=1)


class Cut(Fault):
    """Each stream ends after `tokens` tokens.

    runner: as when the runner died; clean: as if complete, with the end missing;
    line: within a line, then closed; socket: reset within a chunk
    """

    fault: Literal["cut"]
    tokens: int = Field(default=5, ge=0)
    variant: Literal["runner", "clean", "line", "socket"] = "runner"
    times: int | None = Field(default=None, ge=1)


class OutOfMemory(Fault):
    """Another process holds the GPUs' memory: loads fail, idle models are gone."""

    fault: Literal["out_of_memory"]


class MetricsDown(Fault):
    """/metrics answers 503; the rest of the node is well."""

    fault: Literal["metrics_down"]


AnyFault = (
    Hot | Ecc | Xid | Hang | Slow | Refuse | Error | Cut | OutOfMemory | MetricsDown
)
NAMES = tuple(
    get_args(kind.model_fields["fault"].annotation)[0] for kind in get_args(AnyFault)
)
_ADAPTER: TypeAdapter[AnyFault] = TypeAdapter(
    Annotated[AnyFault, Field(discriminator="fault")]
)


def parse(document: Any) -> AnyFault:
    """Read a fault; raises FaultError that names the field and the value."""
    if not isinstance(document, dict):
        raise FaultError(f"must be a JSON object, got {document!r}")
    if document.get("fault") not in NAMES:
        known = ", ".join(NAMES)
        raise FaultError(
            f"fault: must be one of {known}, got {document.get('fault')!r}"
        )
    try:
        return _ADAPTER.validate_python(document)
    except ValidationError as error:
        raise FaultError("; ".join(_lines(error))) from error


def _lines(error: ValidationError) -> list[str]:
    lines = []
    for each in error.errors():
        path = ".".join(str(part) for part in each["loc"][1:])
        what = each["msg"][:1].lower() + each["msg"][1:]
        lines.append(f"{path}: {what}, got {each['input']!r}")
    return lines
