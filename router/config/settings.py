"""Every setting of the router, with its default, its limits and what it means.

Declarations only: `router.config.load` reads them from the file and the environment.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import ValidationInfo, field_validator

from router.config.address import base_url
from router.config.section import (
    DAY,
    OptionalPath,
    RequiredPath,
    Section,
    above,
    at_least,
    one_of,
    seconds,
    setting,
)
from router.pickers import OLD_NAMES, PICKERS

_HOST = re.compile(r"(\*\.)?[a-z0-9_-]+(\.[a-z0-9_-]+)*", re.IGNORECASE)


class ServiceSettings(Section):
    """How a service of the telemetry is reached, whatever lies in front of it."""

    url: str
    timeout_seconds: float
    username: str = setting(
        "inferops", "user of its login, with `password_file`", restart=True
    )
    password_file: OptionalPath = setting(
        None, "file with the password of its login; none: it has none", restart=True
    )
    token_file: OptionalPath = setting(
        None, "file with a bearer token, in place of a password", restart=True
    )
    ca_file: OptionalPath = setting(
        None,
        "certificates (PEM) that its own must be signed by; none: those that this"
        " machine trusts",
        restart=True,
    )

    @field_validator("url", check_fields=False)
    @classmethod
    def _base_url(cls, value: str) -> str:
        return base_url(value, path=True)

    @field_validator("token_file")
    @classmethod
    def _one_login(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        if value is not None and info.data.get("password_file") is not None:
            raise ValueError("must be unset beside password_file: give one of them")
        return value


class PrometheusSettings(ServiceSettings):
    """Where signals and alerts are read."""

    url: str = setting(
        "http://127.0.0.1:9090",
        "Prometheus' base URL, with its path if it has one, without credentials",
        restart=True,
    )
    timeout_seconds: float = seconds(
        2, "longest wait for one query", longest=60, restart=True
    )


class AlertmanagerSettings(ServiceSettings):
    """Where silences are posted when an operator asks for one."""

    url: str = setting(
        "http://127.0.0.1:9093",
        "Alertmanager's base URL, with its path if it has one, without credentials",
        restart=True,
    )
    timeout_seconds: float = seconds(
        5, "longest wait for one answer", longest=60, restart=True
    )


class ControlSettings(Section):
    """How often the loop looks, and how long it trusts what it saw."""

    interval_seconds: float = seconds(
        2, "time between two passes over signals and alerts"
    )
    resident_interval_seconds: float = seconds(
        3, "time between two polls of a node's loaded models (`/api/ps`)"
    )
    present_interval_seconds: float = seconds(
        30, "time between two polls of a node's models on disk (`/api/tags`)"
    )
    probe_timeout_seconds: float = seconds(
        2, "longest wait for one answer of a node to such a poll", longest=60
    )
    stale_after_seconds: float = seconds(
        15, "age at which readings count as old: scores decay from here on"
    )
    forget_after_seconds: float = seconds(
        120, "age at which readings are dropped: in-flight and measured speed decide"
    )
    doorbell_seconds: float = seconds(
        60, "how long a webhook's hold lasts unless a pass confirms it"
    )
    panic_ratio: float = setting(
        0.5,
        "share of the fleet held by alerts above which alerts' holds are ignored",
        gt=0,
        le=1,
    )
    slow_start_seconds: float = seconds(
        30,
        "longest time in which a node that came back gets its slots one by one; as"
        " long as it was out, where that is less",
    )
    flap_returns: int = setting(
        3,
        "returns from one alert within `flap_window_seconds` after which a node has"
        " to be proven well for longer",
        ge=1,
        le=50,
    )
    flap_window_seconds: float = seconds(
        600, "over which the returns of a node from an alert are counted"
    )
    hold_down_seconds: float = seconds(
        60,
        "how long a flapping node is proven well before it is back; twice that after"
        " each further return",
    )
    longest_hold_down_seconds: float = seconds(
        1800, "how long at most, however often it comes back"
    )
    verify_timeout_seconds: float = seconds(
        900,
        "longest time for the generation that brings a node back where its alert has"
        " `clear: verified`; loading is in it",
    )
    verify_retry_seconds: float = seconds(
        10, "wait after such a check failed; twice that each time, at most 10 min"
    )
    history_events: int = setting(
        10_000, "events of the holds' history that are kept", ge=100, le=10_000_000
    )

    @field_validator("stale_after_seconds", "doorbell_seconds")
    @classmethod
    def _outlasts_a_pass(cls, value: float, info: ValidationInfo) -> float:
        return above(value, "interval_seconds", info)

    @field_validator("longest_hold_down_seconds")
    @classmethod
    def _outlasts_the_first(cls, value: float, info: ValidationInfo) -> float:
        return above(value, "hold_down_seconds", info)

    @field_validator("forget_after_seconds")
    @classmethod
    def _outlasts_stale(cls, value: float, info: ValidationInfo) -> float:
        return above(value, "stale_after_seconds", info)


class DispatchSettings(Section):
    """Which node gets a request, how long everything may take, and how much fits."""

    picker: Annotated[str, one_of(PICKERS, OLD_NAMES)] = setting(
        "shortest_completion",
        f"how a node is chosen among those with a free slot: {', '.join(PICKERS)}",
    )
    default_slots: int = setting(
        1,
        "requests in flight at first where `__slots` is not given; more are learned",
        ge=1,
        le=1024,
    )
    max_waiting: int = setting(
        512,
        "requests in the queue; one more of who has most there is answered 429",
        ge=0,
        le=1_000_000,
    )
    queue_timeout_seconds: float = seconds(
        3600, "longest wait in the queue; a client that leaves ends its wait at once"
    )
    first_token_seconds: float = setting(
        0.0,
        "an interactive request is answered 429 once its first token cannot be there in"
        " so many seconds; 0 is no limit; `X-First-Token-Timeout` asks for less",
        ge=0,
        le=86_400,
    )
    request_timeout_seconds: float = seconds(
        DAY,
        "longest time for queue and whole reply; `X-Request-Timeout` asks for less",
    )
    attempts: int = setting(
        3,
        "nodes tried for one request, the first included; nodes of which nothing bad is"
        " known are tried beyond that",
        ge=1,
        le=100,
    )
    retry_ratio: float = setting(
        0.2,
        "share of requests that may be tried a third time where every node left has"
        " failed, over the fleet; a first retry is always allowed",
        ge=0,
        le=1,
    )
    retry_minimum: int = setting(
        10, "such tries that are allowed whatever that share says", ge=0, le=10_000
    )
    down_wait_seconds: float = setting(
        15,
        "longest wait for a node to come back, where every node that could take a"
        " request is down; `0`: it is answered 503 at once",
        ge=0,
        le=3600,
    )
    circuit_wait_seconds: float = seconds(
        2,
        "first wait before a node, or a model on it, that failed is tried by a small"
        " generation; three times that after each further failure",
    )
    longest_circuit_wait_seconds: float = seconds(
        60, "how long that wait becomes at most"
    )
    connect_timeout_seconds: float = seconds(
        2, "longest wait for a node to take the connection", longest=60
    )
    first_byte_timeout_seconds: float = seconds(
        600,
        "silence before a reply after which its node must give a sign of life, or the"
        " request goes elsewhere; replies in one piece are silent to their end",
    )
    stall_timeout_seconds: float = seconds(
        120,
        "the same within a stream; longest time in which a node takes no more of a"
        " request, or a client no more of a reply",
    )
    max_body_bytes: int = setting(
        67_108_864, "largest request body (images count)", ge=1024, le=2**31
    )
    max_bodies_bytes: int = setting(
        536_870_912,
        "bodies held in memory at one time, over all requests and whole replies; one"
        " more is answered 429",
        ge=1024,
        le=2**40,
    )
    body_timeout_seconds: float = seconds(
        60,
        "longest time in which nothing of a request's body arrives; beyond it, also"
        " the time at less than 500 bytes/s",
        longest=3600,
    )

    @field_validator("longest_circuit_wait_seconds")
    @classmethod
    def _outlasts_the_first(cls, value: float, info: ValidationInfo) -> float:
        return above(value, "circuit_wait_seconds", info)

    @field_validator("max_bodies_bytes")
    @classmethod
    def _takes_the_largest(cls, value: int, info: ValidationInfo) -> int:
        return at_least(value, "max_body_bytes", info)

    @field_validator("first_byte_timeout_seconds")
    @classmethod
    def _outlasts_connecting(cls, value: float, info: ValidationInfo) -> float:
        return above(value, "connect_timeout_seconds", info)


class ShutdownSettings(Section):
    """How the router ends."""

    grace_seconds: float = seconds(
        25, "how long streams may go on after SIGTERM", longest=3600, restart=True
    )


class InventorySettings(Section):
    """The nodes."""

    path: RequiredPath = setting(
        Path("prometheus/targets/nodes.yml"),
        "the inventory, in Prometheus' file_sd format",
        restart=True,
    )


class SignalsSettings(Section):
    """What a node's score is made of."""

    path: RequiredPath = setting(
        Path("router/signals.yml"), "the declared signals", restart=True
    )


class StateSettings(Section):
    """What outlives the process."""

    directory: RequiredPath = setting(
        Path(".run/state"),
        "holds, overrides and the last good inventory",
        restart=True,
    )


class WebhookSettings(Section):
    """Alertmanager's bell."""

    token_file: OptionalPath = setting(
        None,
        "file with the bearer token that Alertmanager sends; none: the bell is shut",
        restart=True,
    )


class BatchSettings(Section):
    """Jobs over many prompts: where they are kept, and how they stand back."""

    database: str = setting(
        "",
        "`postgresql://user@machine/name`, without a password;"
        " empty: SQLite in `state.directory`",
        restart=True,
    )
    database_password_file: OptionalPath = setting(
        None, "file with that database's password", restart=True
    )
    max_file_bytes: int = setting(
        1_073_741_824, "largest uploaded file", ge=1024, le=2**40
    )
    max_line_bytes: int = setting(
        16_777_216,
        "longest line of a file, and largest request of an item",
        ge=1024,
        le=2**28,
    )
    max_items: int = setting(
        1_000_000, "most items of a job, samples included", ge=1, le=10_000_000
    )
    max_job_bytes: int = setting(
        4_294_967_296,
        "most that a job's items may take in the database; rows that can be read"
        " again in their file take some 400 bytes each",
        ge=65_536,
        le=2**44,
    )
    max_stored_bytes: int = setting(
        107_374_182_400,
        "what all jobs and files may take; above it nothing new is accepted (507)",
        ge=1_048_576,
        le=2**50,
    )
    min_free_bytes: int = setting(
        1_073_741_824,
        "with less free on the disk of `state.directory`, or than a tenth of it,"
        " nothing new is accepted (507); what was accepted goes on",
        ge=0,
        le=2**44,
    )
    reader_memory_bytes: int = setting(
        402_653_184,
        "memory of a process that reads a file or writes prompts, beside its"
        " program's own; larger pages of Parquet files need more",
        ge=67_108_864,
        le=2**36,
    )
    max_open_jobs: int = setting(
        1000, "jobs that are not over; one more is answered 429", ge=1, le=100_000
    )
    upload_stall_seconds: float = seconds(
        60,
        "as `dispatch.body_timeout_seconds`, for uploaded files",
        longest=3600,
    )
    attempts: int = setting(
        3, "tries of an item, where its job does not say", ge=1, le=20
    )
    give_way: Literal["item", "at_once"] = setting(
        "at_once",
        "when a person's request comes: `item` ends the items in flight first,"
        " `at_once` has them leave the node that it goes to, and wait",
    )
    item_timeout_seconds: float = seconds(
        21_600, "longest time for one item's reply", longest=DAY
    )
    lease_seconds: float = seconds(
        60, "how long items stay with a router that says nothing any more"
    )
    retention_seconds: float = setting(
        30 * DAY,
        "how long a job is kept after its end, with its results, and a file that no"
        " kept job uses; `0`: for ever",
        ge=0,
        le=3650 * DAY,
    )


class WebSettings(Section):
    """The door: how many clients, how slowly they may ask, what browsers may do."""

    max_connections: int = setting(
        10_000,
        "clients' connections; the longest idle makes room for one more",
        ge=1,
        le=1_000_000,
        restart=True,
    )
    head_timeout_seconds: float = seconds(
        30,
        "longest time from the first byte of a request's head to its last",
        longest=3600,
    )

    origins: str = setting(
        "",
        "web pages that may use inference and jobs, comma between:"
        " `https://chat.example.org,http://10.0.0.9:*`. Ollama's own list (localhost,"
        " applications) may use inference anyway; no page may use `/admin`",
    )
    hosts: str = setting(
        "",
        "names that the router may be asked by, beside addresses, `localhost`, this"
        " machine's own and `*.ts.net`: `ai.example.org,*.example.com`, `*` for all."
        " Empty: only who asks from this machine must use a known one; else everybody"
        " must, and changes under `/admin` need a token",
    )

    @field_validator("hosts")
    @classmethod
    def _names(cls, value: str) -> str:
        for each in filter(None, map(str.strip, value.split(","))):
            if each != "*" and not _HOST.fullmatch(each):
                raise ValueError(
                    "must be names such as ai.example.org or *.example.org, without"
                    f" scheme or port: {each!r} is none"
                )
        return value


class AdminSettings(Section):
    """The routes under `/admin/`."""

    token_file: OptionalPath = setting(
        None,
        "file with the bearer token for changes; none: only from this machine, through"
        " no proxy",
        restart=True,
    )


class AccessSettings(Section):
    """Who may use the router: API keys."""

    keys: Literal["auto", "required", "off"] = setting(
        "auto",
        "whether a request needs an API key: `required`; `auto`: as soon as there is"
        " one, and without any the router starts on this machine's own addresses only;"
        " `off`: never, wherever it listens: for a lab",
    )
    keys_file: OptionalPath = setting(
        None,
        "file with keys, beside those that `inferops keys create` makes"
        " ([keys](keys.md))",
        restart=True,
    )
    metrics_token_file: OptionalPath = setting(
        None,
        "file with the bearer token that Prometheus sends; it opens `/metrics` where"
        " keys are needed",
        restart=True,
    )


class LogSettings(Section):
    """What is written to stderr."""

    level: Literal["debug", "info", "warning", "error"] = setting(
        "info", "the least severe event that is written"
    )
    format: Literal["logfmt", "json"] = setting("logfmt", "how an event is written")


class Config(Section):
    """Every setting of the router."""

    prometheus: PrometheusSettings = PrometheusSettings()
    alertmanager: AlertmanagerSettings = AlertmanagerSettings()
    control: ControlSettings = ControlSettings()
    dispatch: DispatchSettings = DispatchSettings()
    shutdown: ShutdownSettings = ShutdownSettings()
    inventory: InventorySettings = InventorySettings()
    signals: SignalsSettings = SignalsSettings()
    state: StateSettings = StateSettings()
    webhook: WebhookSettings = WebhookSettings()
    admin: AdminSettings = AdminSettings()
    access: AccessSettings = AccessSettings()
    web: WebSettings = WebSettings()
    batch: BatchSettings = BatchSettings()
    log: LogSettings = LogSettings()
