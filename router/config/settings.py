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
from router.model import canonical
from router.pickers import DEFAULT, OLD_NAMES, PICKERS

_ADDRESS = re.compile(r"(\[[0-9a-fA-F:.]+\]|[\w.-]+):[0-9]{1,5}")
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
    """Where the router reads signals and alerts."""

    url: str = setting(
        "http://127.0.0.1:9090",
        "Prometheus' base URL, with its path if it has one, without credentials",
        restart=True,
    )
    timeout_seconds: float = seconds(
        2, "time limit of a query", longest=60, restart=True
    )


class AlertmanagerSettings(ServiceSettings):
    """Where the router posts an operator's silences."""

    url: str = setting(
        "http://127.0.0.1:9093",
        "Alertmanager's base URL, with its path if it has one, without credentials",
        restart=True,
    )
    timeout_seconds: float = seconds(
        5, "time limit of a request", longest=60, restart=True
    )


class ControlSettings(Section):
    """How often the control loop runs, and how long it trusts its readings."""

    interval_seconds: float = seconds(
        2, "time between two control passes (signals and alerts)"
    )
    resident_interval_seconds: float = seconds(
        3, "time between two polls of a node's loaded models (`/api/ps`)"
    )
    present_interval_seconds: float = seconds(
        30, "time between two polls of a node's models on disk (`/api/tags`)"
    )
    probe_timeout_seconds: float = seconds(
        2, "longest wait for a node to answer a poll", longest=60
    )
    stale_after_seconds: Annotated[float, above("interval_seconds")] = seconds(
        15, "age at which readings are stale: scores decay from then on"
    )
    forget_after_seconds: Annotated[float, above("stale_after_seconds")] = seconds(
        120,
        "age at which readings are dropped; only load and measured speeds decide then",
    )
    provisional_hold_seconds: Annotated[float, above("interval_seconds")] = seconds(
        60,
        "how long a hold by a notification lasts unless a reconcile pass confirms it",
    )
    panic_ratio: float = setting(
        0.5,
        "share of the fleet held by alerts above which alert holds are ignored (panic)",
        gt=0,
        le=1,
    )
    slow_start_seconds: float = seconds(
        30,
        "maximum slow-start time after a node returns; never longer than the outage",
    )
    flap_returns: int = setting(
        3,
        "returns from one alert within `flap_window_seconds` after which a node counts"
        " as flapping and is held down",
        ge=1,
        le=50,
    )
    flap_window_seconds: float = seconds(
        600, "window in which a node's returns from an alert are counted"
    )
    hold_down_seconds: float = seconds(
        60,
        "how long a flapping node must stay healthy before it returns; doubles with"
        " each further return",
    )
    longest_hold_down_seconds: Annotated[float, above("hold_down_seconds")] = seconds(
        1800, "upper bound of that time"
    )
    verify_timeout_seconds: float = seconds(
        900,
        "time limit of the generation that clears an alert with `clear: verified`,"
        " loading the model included",
    )
    verify_retry_seconds: float = seconds(
        10, "wait after a failed check; doubles each time, at most 10 min"
    )
    history_events: int = setting(
        10_000, "events kept in the audit log of holds", ge=100, le=10_000_000
    )


def pickers_by_model(text: str) -> dict[str, str]:
    """Read `llama3.2:3b=session, qwen3=random`, by canonical name of model."""
    pairs = (each.partition("=") for each in text.split(",") if each.strip())
    return {canonical(model.strip()): name.strip() for model, _, name in pairs}


class DispatchSettings(Section):
    """How a request gets a node, and its limits."""

    picker: Annotated[str, one_of(PICKERS, OLD_NAMES)] = setting(
        DEFAULT,
        f"how a node is chosen among those with a free slot: {', '.join(PICKERS)}",
    )
    pickers: str = setting(
        "", "other pickers for some models: `llama3.2:3b=session, qwen3=random`"
    )
    default_slots: int = setting(
        1,
        "slots of a node without `__slots` at first; more are learned",
        ge=1,
        le=1024,
    )
    max_waiting: int = setting(
        512,
        "requests in the queue; when it is full, the client with most of them gets 429",
        ge=0,
        le=1_000_000,
    )
    head_room: float = setting(
        0.0,
        "share of the fleet's slots, rounded down, that batch requests"
        " (`X-InferOps-Priority: batch`) leave free for interactive ones",
        ge=0,
        le=0.9,
    )
    nodes_for_others: float = setting(
        1.0,
        "how many nodes a client that asks for more than its share keeps clear for"
        " clients below theirs, beside those where their requests run, in proportion;"
        " `0`: none, and `idle_for_others` bounds the others",
        ge=0,
        le=16,
    )
    idle_for_others: float = setting(
        2.0,
        "where `nodes_for_others` is `0` or no node can be spared: slots that may stay"
        " idle for each that clients below their share use; `0`: nothing is left to"
        " them, whatever `nodes_for_others` says",
        ge=0,
        le=16,
    )
    batch_wait_seconds: float = seconds(
        60,
        "wait after which the first batch request in line goes before interactive ones,"
        " where no other batch request runs",
    )
    queue_timeout_seconds: float = seconds(
        3600, "longest wait in the queue; a client that disconnects leaves it at once"
    )
    first_token_seconds: float = setting(
        0.0,
        "an interactive request gets 429 once its first token cannot arrive within this"
        " time; `0`: no limit; `X-First-Token-Timeout` may ask for less",
        ge=0,
        le=86_400,
    )
    request_timeout_seconds: float = seconds(
        DAY,
        "longest time for queue and reply; `X-Request-Timeout` may ask for less",
    )
    attempts: int = setting(
        3,
        "nodes tried for one request, the first included; healthy nodes are tried"
        " beyond that",
        ge=1,
        le=100,
    )
    retry_ratio: float = setting(
        0.2,
        "retry budget: share of requests that may have a third attempt when every"
        " remaining node has failed; the first retry is always allowed",
        ge=0,
        le=1,
    )
    retry_minimum: int = setting(
        10, "third attempts that are always allowed", ge=0, le=10_000
    )
    down_wait_seconds: float = setting(
        15,
        "longest wait for a node when every node that could serve a request is down;"
        " `0`: answer 503 at once",
        ge=0,
        le=3600,
    )
    circuit_wait_seconds: float = seconds(
        2,
        "wait before an open circuit is tried by a small generation; triples with each"
        " further failure",
    )
    longest_circuit_wait_seconds: Annotated[float, above("circuit_wait_seconds")] = (
        seconds(60, "upper bound of that wait")
    )
    connect_timeout_seconds: float = seconds(
        2, "longest time to connect to a node", longest=60
    )
    first_byte_timeout_seconds: Annotated[float, above("connect_timeout_seconds")] = (
        seconds(
            600,
            "silence before a reply after which the node must answer a question, or the"
            " request goes to another node; a reply in one piece is silent to its end",
        )
    )
    stall_timeout_seconds: float = seconds(
        120,
        "the same within a stream; also the longest time in which a node accepts no"
        " byte of a request, or a client no byte of a reply",
    )
    max_body_bytes: int = setting(
        67_108_864, "largest request body, images included", ge=1024, le=2**31
    )
    max_bodies_bytes: Annotated[int, at_least("max_body_bytes")] = setting(
        536_870_912,
        "memory for bodies of all requests and for buffered replies; beyond it: 429",
        ge=1024,
        le=2**40,
    )
    body_timeout_seconds: float = seconds(
        60,
        "longest gap in a request's body; beyond this time the mean must also be"
        " 500 bytes/s",
        longest=3600,
    )

    @field_validator("pickers")
    @classmethod
    def _names_pickers(cls, value: str) -> str:
        for model, picker in pickers_by_model(value).items():
            if not model or picker not in PICKERS:
                raise ValueError(f"must be `model={'|'.join(PICKERS)}, …`")
        return value


class ShutdownSettings(Section):
    """How the router shuts down."""

    grace_seconds: float = seconds(
        25, "how long streams may continue after SIGTERM", longest=3600, restart=True
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
    """What the router keeps over a restart."""

    directory: RequiredPath = setting(
        Path(".run/state"),
        "folder of holds, overrides, learned speeds, jobs and the last good inventory",
        restart=True,
    )


class WebhookSettings(Section):
    """Alertmanager's notifications."""

    token_file: OptionalPath = setting(
        None,
        "file with the bearer token that Alertmanager sends; none: webhook disabled",
        restart=True,
    )


class JobSettings(Section):
    """Jobs: where they are kept, how they run, and their limits."""

    database: str = setting(
        "",
        "`postgresql://user@machine/name`, without a password;"
        " empty: SQLite in `state.directory`",
        restart=True,
    )
    database_password_file: OptionalPath = setting(
        None, "file with the password of that database", restart=True
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
        "most bytes of a job's items in the database; a row that can be read again in"
        " its file takes about 400",
        ge=65_536,
        le=2**44,
    )
    max_stored_bytes: int = setting(
        107_374_182_400,
        "most bytes of all jobs and files; beyond it nothing new is accepted (507)",
        ge=1_048_576,
        le=2**50,
    )
    min_free_bytes: int = setting(
        1_073_741_824,
        "free space on the disk of `state.directory` (or a tenth of it, if less) below"
        " which nothing new is accepted (507); accepted jobs continue",
        ge=0,
        le=2**44,
    )
    reader_memory_bytes: int = setting(
        402_653_184,
        "memory of a process that reads a file or writes prompts, without its own"
        " program; larger pages of Parquet files need more",
        ge=67_108_864,
        le=2**36,
    )
    max_open_jobs: int = setting(
        1000, "jobs that have not ended; one more gets 429", ge=1, le=100_000
    )
    upload_stall_seconds: float = seconds(
        60,
        "as `dispatch.body_timeout_seconds`, for uploaded files",
        longest=3600,
    )
    attempts: int = setting(
        3, "attempts of an item, unless its job says otherwise", ge=1, le=20
    )
    preemption: Annotated[
        str,
        one_of(
            ("immediate", "after_item"), {"at_once": "immediate", "item": "after_item"}
        ),
    ] = setting(
        "immediate",
        "when an interactive request needs a node: `immediate` preempts its items,"
        " `after_item` lets them end first",
    )
    item_timeout_seconds: float = seconds(
        21_600, "longest time for one item's reply", longest=DAY
    )
    lease_seconds: float = seconds(
        60, "how long items stay leased to a router that no longer renews them"
    )
    retention_seconds: float = setting(
        30 * DAY,
        "how long a job and its results are kept after its end, and a file that no job"
        " uses; `0`: forever",
        ge=0,
        le=3650 * DAY,
    )


class WebSettings(Section):
    """Connections of clients, and what browsers may do."""

    max_connections: int = setting(
        10_000,
        "clients' connections; the longest idle one is closed for one more",
        ge=1,
        le=1_000_000,
        restart=True,
    )
    head_timeout_seconds: float = seconds(
        30,
        "longest time for a request's head, from its first byte",
        longest=3600,
    )

    tls_address: str = setting(
        "",
        "address for https beside the plain one: `0.0.0.0:8443`, `[::]:8443`; empty:"
        " no https",
        restart=True,
    )
    tls_cert: OptionalPath = setting(
        None,
        "certificate for https with its chain (PEM), read again when it changes",
        restart=True,
    )
    tls_key: OptionalPath = setting(
        None, "its private key (PEM), without a password", restart=True
    )
    boards: RequiredPath = setting(
        Path("grafana/dashboards"),
        "dashboards that `/boards` draws; meant for routers without Grafana",
        restart=True,
    )
    origins: str = setting(
        "",
        "web pages that may use inference and jobs, separated by commas:"
        " `https://chat.example.org,http://10.0.0.9:*`. Ollama's own list (localhost,"
        " applications) may always use inference; no page may use `/admin`",
    )
    hosts: str = setting(
        "",
        "host names of the router beside addresses, `localhost`, this machine's name"
        " and `*.ts.net`: `ai.example.org,*.example.com`, `*` for all. Empty: only"
        " requests from this machine must use a known name; otherwise all must, and"
        " changes under `/admin` need a token",
    )

    @field_validator("tls_address")
    @classmethod
    def _address(cls, value: str) -> str:
        if value and not _ADDRESS.fullmatch(value):
            raise ValueError("must be an address with a port such as 0.0.0.0:8443")
        return value

    @field_validator("tls_cert", "tls_key")
    @classmethod
    def _for_https(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        # Absent when it is itself at fault.
        if (value is None) is bool(info.data.get("tls_address", value)):
            what = "is required beside" if value is None else "needs"
            raise ValueError(f"{what} tls_address")
        return value

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
        "file with the bearer token for changes; none: changes from this machine only,"
        " without a proxy",
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
    limits: Literal["enforce", "shadow"] = setting(
        "enforce",
        "what limits of keys, tags and everybody do: `shadow` counts what would be"
        " refused (`inferops_limits_exceeded_total`), and refuses nothing",
    )
    metrics_token_file: OptionalPath = setting(
        None,
        "file with the bearer token that Prometheus sends; it opens `/metrics` where"
        " keys are needed",
        restart=True,
    )


class UsageSettings(Section):
    """The usage ledger: who used what, and what it cost ([usage](usage.md))."""

    keep_seconds: float = setting(
        400 * DAY,
        "how long a request's row is kept; `0`: for ever",
        ge=0,
        le=3650 * DAY,
    )
    meter_interval_seconds: float = seconds(
        5, "how often the cards' energy counters are read from Prometheus", longest=60
    )
    price_per_kwh: float = setting(
        0.0, "price of a kilowatt-hour, in your currency", ge=0, le=1e6
    )
    price_per_node_hour: float = setting(
        0.0, "price of an hour of a node that works, in your currency", ge=0, le=1e6
    )
    top: int = setting(
        20,
        "principals with metrics of their own; all others are `other`",
        ge=1,
        le=1000,
        restart=True,
    )


class TraceSettings(ServiceSettings):
    """OpenTelemetry's traces ([traces](traces.md))."""

    url: str = setting(
        "",
        "OTLP/HTTP collector, such as `http://127.0.0.1:4318`, without `/v1/traces`;"
        " empty: no traces. Needs the extra `inferops[opentelemetry]`",
        restart=True,
    )
    timeout_seconds: float = seconds(
        10, "time limit of an export, its retries included", longest=60, restart=True
    )
    sample_ratio: float = setting(
        1.0,
        "share of the traces begun here that is recorded; a caller's own decision"
        " (`traceparent`) is kept",
        ge=0,
        le=1,
    )

    @field_validator("url", check_fields=False)
    @classmethod
    def _base_url(cls, value: str) -> str:
        return base_url(value, path=True) if value else ""


class MetricsSettings(Section):
    """What `/metrics` has beside the router's own names."""

    gen_ai: Literal["on", "off"] = setting(
        "off",
        "whether OpenTelemetry's `gen_ai_*` metrics are there too"
        " ([traces](traces.md#metrics))",
        restart=True,
    )


class LogSettings(Section):
    """What the router writes to stderr."""

    level: Literal["debug", "info", "warning", "error"] = setting(
        "info", "least severe event that is written"
    )
    format: Literal["logfmt", "json"] = setting("logfmt", "format of an event")


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
    jobs: JobSettings = JobSettings()
    usage: UsageSettings = UsageSettings()
    traces: TraceSettings = TraceSettings()
    metrics: MetricsSettings = MetricsSettings()
    log: LogSettings = LogSettings()
