"""`router.yml` and its overrides from the environment, as one frozen value.

An override is named `INFEROPS_<SECTION>__<FIELD>`. Every fault is reported at
once, each as `router.yml: dispatch.attempts: must be >= 1, got 0`. Paths are
taken from the directory that the router is started in.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
)
from pydantic.fields import FieldInfo

from router import document
from router.address import base_url
from router.document import ABSENT, Fault
from router.errors import ConfigError

PREFIX = "INFEROPS_"
ENVIRONMENT = "environment"

_DAY = 86400


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


_Path = Annotated[Path, BeforeValidator(_path)]
_OptionalPath = Annotated[Path | None, BeforeValidator(_path_or_none)]


def _setting(
    default: object, meaning: str, *, restart: bool = False, **limits: Any
) -> Any:
    """Declare one setting; `restart`: read once at start, not on a reload."""
    return Field(
        default=default,
        description=meaning,
        json_schema_extra={"restart": restart},
        **limits,
    )


def _seconds(
    default: float, meaning: str, *, longest: float = _DAY, restart: bool = False
) -> Any:
    return _setting(default, meaning, restart=restart, gt=0, le=longest)


def _above(value: float, other: str, info: ValidationInfo) -> float:
    least = info.data.get(other)  # absent when it is itself at fault
    if least is not None and value <= least:
        raise ValueError(f"must be > {other} ({least:g})")
    return value


class _Section(BaseModel):
    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        validate_default=True,  # a default may contradict what another was set to
    )


class PrometheusSettings(_Section):
    """Where signals and alerts are read."""

    url: str = _setting(
        "http://127.0.0.1:9090",
        "Prometheus' base URL, without credentials",
        restart=True,
    )
    timeout_seconds: float = _seconds(
        2, "longest wait for one query", longest=60, restart=True
    )

    @field_validator("url")
    @classmethod
    def _base_url(cls, value: str) -> str:
        return base_url(value)


class ControlSettings(_Section):
    """How often the loop looks, and how long it trusts what it saw."""

    interval_seconds: float = _seconds(
        2, "time between two passes over signals and alerts"
    )
    resident_interval_seconds: float = _seconds(
        3, "time between two polls of a node's loaded models (`/api/ps`)"
    )
    present_interval_seconds: float = _seconds(
        30, "time between two polls of a node's models on disk (`/api/tags`)"
    )
    probe_timeout_seconds: float = _seconds(
        2, "longest wait for one answer of a node to such a poll", longest=60
    )
    stale_after_seconds: float = _seconds(
        15, "age at which readings count as old: scores decay from here on"
    )
    forget_after_seconds: float = _seconds(
        120, "age at which readings are dropped: in-flight and measured speed decide"
    )
    doorbell_seconds: float = _seconds(
        60, "how long a webhook's hold lasts unless a pass confirms it"
    )
    panic_ratio: float = _setting(
        0.5,
        "share of the fleet held by alerts above which alerts' holds are ignored",
        gt=0,
        le=1,
    )

    @field_validator("stale_after_seconds", "doorbell_seconds")
    @classmethod
    def _outlasts_a_pass(cls, value: float, info: ValidationInfo) -> float:
        return _above(value, "interval_seconds", info)

    @field_validator("forget_after_seconds")
    @classmethod
    def _outlasts_stale(cls, value: float, info: ValidationInfo) -> float:
        return _above(value, "stale_after_seconds", info)


class DispatchSettings(_Section):
    """Which node gets a request, how long everything may take, and how much fits."""

    # The names in router/dispatch/pickers.py; a test compares them.
    picker: Literal["soonest", "least_in_flight", "round_robin"] = _setting(
        "soonest", "how one of the candidates is taken"
    )
    default_slots: int = _setting(
        1,
        "requests in flight at first where `__slots` is not given; more are learned",
        ge=1,
        le=1024,
    )
    max_waiting: int = _setting(
        512, "requests in the queue; one more is answered 429", ge=0, le=1_000_000
    )
    queue_timeout_seconds: float = _seconds(120, "longest wait in the queue")
    request_timeout_seconds: float = _seconds(
        3600,
        "longest time for queue and whole reply; `X-Request-Timeout` asks for less",
    )
    attempts: int = _setting(
        3, "nodes tried for one request, the first included", ge=1, le=100
    )
    retry_ratio: float = _setting(
        0.2, "share of requests that may be tried again, over the fleet", ge=0, le=1
    )
    retry_minimum: int = _setting(
        10, "tries that are allowed whatever that share says", ge=0, le=10_000
    )
    connect_timeout_seconds: float = _seconds(
        2, "longest wait for a node to take the connection", longest=60
    )
    first_byte_timeout_seconds: float = _seconds(
        600, "longest wait for a reply's first byte: loading and prefill are in it"
    )
    stall_timeout_seconds: float = _seconds(
        120, "longest silence in the middle of a reply"
    )
    max_body_bytes: int = _setting(
        67_108_864, "largest request body (images count)", ge=1024, le=2**31
    )
    body_timeout_seconds: float = _seconds(
        30, "longest wait for a request's body to arrive", longest=3600
    )

    @field_validator("first_byte_timeout_seconds")
    @classmethod
    def _outlasts_connecting(cls, value: float, info: ValidationInfo) -> float:
        return _above(value, "connect_timeout_seconds", info)


class ShutdownSettings(_Section):
    """How the router ends."""

    grace_seconds: float = _seconds(
        25, "how long streams may go on after SIGTERM", longest=3600, restart=True
    )


class InventorySettings(_Section):
    """The nodes."""

    path: _Path = _setting(
        Path("prometheus/targets/nodes.yml"),
        "the inventory, in Prometheus' file_sd format",
        restart=True,
    )


class SignalsSettings(_Section):
    """What a node's score is made of."""

    path: _Path = _setting(
        Path("router/signals.yml"), "the declared signals", restart=True
    )


class StateSettings(_Section):
    """What outlives the process."""

    directory: _Path = _setting(
        Path(".run/state"),
        "holds, overrides and the last good inventory",
        restart=True,
    )


class WebhookSettings(_Section):
    """Alertmanager's bell."""

    token_file: _OptionalPath = _setting(
        None,
        "file with the bearer token that Alertmanager sends; none: the bell is shut",
        restart=True,
    )


class WebSettings(_Section):
    """What browsers may do."""

    origins: str = _setting(
        "",
        "web pages that may use the router beside Ollama's own list (localhost),"
        " comma between: `https://chat.example.org,http://10.0.0.9:*`",
    )


class AdminSettings(_Section):
    """The routes under `/admin/`."""

    token_file: _OptionalPath = _setting(
        None,
        "file with the bearer token for changes; none: only from this machine",
        restart=True,
    )


class LogSettings(_Section):
    """What is written to stderr."""

    level: Literal["debug", "info", "warning", "error"] = _setting(
        "info", "the least severe event that is written"
    )
    format: Literal["logfmt", "json"] = _setting("logfmt", "how an event is written")


class Config(_Section):
    """Every setting of the router."""

    prometheus: PrometheusSettings = PrometheusSettings()
    control: ControlSettings = ControlSettings()
    dispatch: DispatchSettings = DispatchSettings()
    shutdown: ShutdownSettings = ShutdownSettings()
    inventory: InventorySettings = InventorySettings()
    signals: SignalsSettings = SignalsSettings()
    state: StateSettings = StateSettings()
    webhook: WebhookSettings = WebhookSettings()
    admin: AdminSettings = AdminSettings()
    web: WebSettings = WebSettings()
    log: LogSettings = LogSettings()


def load_config(path: Path, environ: Mapping[str, str]) -> Config:
    """Read `router.yml`, with overrides; raises ConfigError with every fault."""
    return parse_config(document.read(path), environ, source=path.name)


def parse_config(
    text: str, environ: Mapping[str, str], *, source: str = "router.yml"
) -> Config:
    """Check the text of `router.yml` with its overrides, as `load_config` does."""
    content = document.parse(text, source)
    content = {} if content is None else content
    overrides, lines = _overrides(environ)
    config, faults = document.check(Config, _overlaid(content, overrides))
    lines += [_line(fault, source, overrides) for fault in faults]
    if config is None or lines:
        raise ConfigError("\n".join(lines))
    return config


def settings() -> Iterator[tuple[str, str, FieldInfo]]:
    """Give every setting in order: section, name, declaration."""
    for section, declared in Config.model_fields.items():
        for name, field in _fields(declared.annotation).items():
            yield section, name, field


def _fields(model: Any) -> Mapping[str, FieldInfo]:
    fields: Mapping[str, FieldInfo] = model.model_fields
    return fields


def variable(section: str, name: str) -> str:
    """Name the environment variable of a setting."""
    return f"{PREFIX}{section}__{name}".upper()


def needs_restart(field: FieldInfo) -> bool:
    extra = field.json_schema_extra
    return isinstance(extra, dict) and extra.get("restart") is True


def waiting_for_restart(running: Config, wanted: Config) -> tuple[str, ...]:
    """Name the settings that differ and are read only at start."""
    return tuple(
        f"{section}.{name}"
        for section, name, field in settings()
        if needs_restart(field)
        and getattr(getattr(running, section), name)
        != getattr(getattr(wanted, section), name)
    )


_Place = tuple[str, str]


def _overrides(environ: Mapping[str, str]) -> tuple[dict[_Place, str], list[str]]:
    """Pick our variables: values by place, and a line for each unknown one.

    The value of an unknown variable is not shown: it may be a secret.
    """
    places = {
        variable(section, name): (section, name) for section, name, _ in settings()
    }
    found: dict[_Place, str] = {}
    lines = []
    for name in sorted(environ):
        if not name.startswith(PREFIX) or "__" not in name:
            continue
        if name in places:
            found[places[name]] = environ[name]
        else:
            fault = Fault((name,), document.unknown(name, places), ABSENT)
            lines.append(fault.line(ENVIRONMENT))
    return found, lines


def _overlaid(content: object, overrides: Mapping[_Place, str]) -> object:
    """Put the overrides over the file's content, whose faults stay as they are."""
    if not isinstance(content, dict):
        return content
    merged: dict[Any, Any] = {
        key: {} if value is None else value for key, value in content.items()
    }
    declared = {(section, name): field for section, name, field in settings()}
    for place, text in overrides.items():
        section = merged.get(place[0], {})
        if isinstance(section, dict):
            typed = _typed(text, declared[place].annotation)
            merged[place[0]] = {**section, place[1]: typed}
    return merged


def _typed(text: str, annotation: Any) -> object:
    """Read a variable's text as its setting's type; left as it is where it is not."""
    if annotation in (int, float):
        try:
            return annotation(text)
        except ValueError:
            return text
    return None if text == "" and annotation == Path | None else text


def _line(fault: Fault, source: str, overrides: Mapping[_Place, str]) -> str:
    for (section, name), text in overrides.items():
        if fault.where == (section, name):
            shown = Fault((variable(section, name),), fault.what, text)
            return shown.line(ENVIRONMENT)
    return fault.line(source)
