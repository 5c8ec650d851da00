"""The board "GPU": what cards do and what ails them, and how far to trust it.

A panel is empty where no source on a node has its series: docs/vocabulary.md.
"""

from __future__ import annotations

from grafana import promql
from grafana.board import Board
from grafana.grid import Band, Section
from grafana.panels import (
    GREEN,
    ORANGE,
    RED,
    Field,
    Json,
    Query,
    renamed,
    timeline,
    timeseries,
)
from grafana.promql import GPU, NODE
from grafana.states import RATIO
from grafana.variables import GPU as GPU_VARIABLE
from grafana.variables import NODE as NODE_VARIABLE

RATE = Field("Bps", 1, low=0, empty="not measured")
COUNT = Field("none", 0, low=0, empty="not counted")
# A full uuid makes a legend unreadable: its first characters have to do. Here, since a
# label_replace costs Prometheus 2 a regular expression for each point.
UUID = "/GPU-([0-9a-z]{8}-[0-9a-z]{3})[0-9a-z-]{24}/"


def gpus() -> Board:
    return Board(
        "gpu",
        "GPU",
        "What each card does, what slows it down, and its faults.",
        [_short(each) for each in (_now(), _load(), _faults(), _telemetry())],
        (NODE_VARIABLE, GPU_VARIABLE),
        most_points=120,  # thrice the series of other boards
    )


def _short(section: Section) -> Section:
    bands = (
        Band(band.height, *(renamed(each, UUID, "$1") for each in band.panels))
        for band in section.bands
    )
    return Section(section.title, *bands)


def _card(record: str, what: str = "") -> Query:
    """Ask for a record of each GPU, whichever source read it."""
    legend = f"{{{{node}}}} {{{{uuid}}}} {what}".rstrip()
    return Query(f"{record}{{{GPU}}}", legend)


def _now() -> Section:
    return Section(
        "Heat, power and memory",
        Band(8, _temperature(), _power()),
        Band(8, _utilisation(), _memory()),
    )


def _load() -> Section:
    return Section(
        "Load in depth",
        Band(8, _duty(), _power_window()),
        Band(8, _activity(), _links(), _clocks()),
    )


def _faults() -> Section:
    return Section(
        "Throttling and faults",
        Band(8, _throttling(), _xids(), _ecc()),
        Band(8, _rows(), _states(), _link_errors()),
    )


def _telemetry() -> Section:
    return Section(
        "GPU telemetry itself",
        Band(7, _cards(), _age(), _intervals()),
        Band(7, _late(), _call_errors()),
    )


def _temperature() -> Json:
    limit = promql.per_node("node_gpu:temperature_limit:celsius", "min")
    return timeseries(
        "GPU temperature",
        "Each GPU, and dashed its node's lowest limit: an override of the inventory, "
        "else the driver's threshold for slowing down.",
        [
            _card("node_gpu:temperature:celsius"),
            Query(limit, "{{node}} limit"),
        ],
        Field("celsius", 0),
        dashed="/ limit$/",
    )


def _power() -> Json:
    return timeseries(
        "GPU power",
        "Power drawn by each GPU.",
        [_card("node_gpu:power:watts")],
        Field("watt", 0, low=0),
    )


def _utilisation() -> Json:
    return timeseries(
        "GPU utilisation",
        "Share of time in which a GPU ran any kernel at all. It hardly differs "
        "between 1 and 16 streams of Ollama: it says busy, not how busy.",
        [_card("node_gpu:utilization:ratio")],
        RATIO,
    )


def _memory() -> Json:
    used = f"max by (node, uuid) (node_gpu:memory_used:bytes{{{GPU}}})"
    total = f"max by (node, uuid) (node_gpu:memory_total:bytes{{{GPU}}})"
    return timeseries(
        "GPU memory used",
        "Bytes in use on each GPU, and dashed what the node's GPUs have in all. Near "
        "the line a model no longer fits and Ollama moves layers to the CPU.",
        [
            Query(f"sum by (node) ({used})", "{{node}}"),
            Query(f"sum by (node) ({total})", "{{node}} total"),
        ],
        Field("bytes", 1, low=0),
        dashed="/ total$/",
    )


def _duty() -> Json:
    return timeseries(
        "GPU duty cycle",
        "Share of the last minute in which any kernel ran, of every sample that the "
        "driver kept, and the busiest sample of the last whole window. Our exporter "
        "only: an instant reading misses bursts.",
        [
            _card("node_gpu:busy:ratio_rate1m"),
            _card("node_gpu:utilization:window_max_ratio", "max"),
        ],
        RATIO,
        dashed="/ max$/",
    )


def _power_window() -> Json:
    return timeseries(
        "GPU power: mean, extremes and limit",
        "Mean by the energy counter, and dashed the highest and the lowest of the "
        "driver's samples in the last whole window (inferops_gpu_window_seconds), and "
        "the limit. Peaks at the limit come before throttling.",
        [
            _card("node_gpu:energy:joules_rate1m"),
            _card("node_gpu:power:window_max_watts", "max"),
            _card("node_gpu:power:window_min_watts", "min"),
            _card("node_gpu:power_limit:watts", "limit"),
        ],
        Field("watt", 0, low=0),
        dashed="/ (max|min|limit)$/",
    )


def _activity() -> Json:
    return timeseries(
        "SM, tensor and memory activity",
        "How much of the card works, on Hopper and newer, or by DCGM's profiling "
        "fields. Decoding is bound by memory: high there and low on tensor cores.",
        [
            _card("node_gpu:sm_activity:ratio", "SM"),
            _card("node_gpu:tensor_activity:ratio", "tensor"),
            _card("node_gpu:dram_activity:ratio", "memory"),
        ],
        RATIO,
    )


def _links() -> Json:
    def both(link: str, name: str) -> list[Query]:
        return [
            Query(
                f"node_gpu:{link}_{way}:bytes_rate1m{{{GPU}}}",
                f"{{{{node}}}} {name} {way}",
            )
            for way in ("transmitted", "received")
        ]

    return timeseries(
        "PCIe and NVLink",
        "Bytes per second. Much of it over PCIe while tokens flow: layers lie on the "
        "CPU, or a model loads.",
        [*both("pcie", "PCIe"), *both("nvlink", "NVLink")],
        RATE,
    )


def _clocks() -> Json:
    return timeseries(
        "GPU clocks",
        "Of the SMs and of the memory. A clock that falls under load: see throttling.",
        [_card("node_gpu:clock:hertz", "{{clock}}")],
        Field("hertz", 2, low=0),
    )


def _throttling() -> Json:
    return timeseries(
        "Throttling by reason",
        "Share of the last minute in which a GPU ran slower. Power: by its limit, "
        "harmless; brake: the power supply; thermal: heat. DCGM does not tell software "
        "from hardware.",
        [_card("node_gpu:throttle:ratio_rate1m", "{{reason}}")],
        RATIO,
    )


def _xids() -> Json:
    return timeseries(
        "XIDs of the last ten minutes",
        "Critical ones take the node out. Contained ones (94) ended one application "
        "and spared the card; many of them do not.",
        [
            _card("node_gpu:xid_critical:count", "critical"),
            _card("node_gpu:xid_application:count", "contained"),
        ],
        COUNT,
    )


def _ecc() -> Json:
    return timeseries(
        "ECC errors",
        "Since the driver was loaded. Corrected ones cost nothing until they come "
        "often; one that was not corrected may have spoilt an answer.",
        [
            _card("node_gpu:ecc_uncorrected:count", "uncorrected"),
            _card("node_gpu:ecc_corrected:count", "corrected"),
        ],
        COUNT,
    )


def _rows() -> Json:
    return timeseries(
        "Remapped rows and retired pages",
        "Memory that was replaced, by cause; pages before Ampere. A card has only so "
        "many spare rows.",
        [
            _card("node_gpu:remapped_rows:count", "rows {{cause}}"),
            _card("node_gpu:retired_pages:count", "pages {{cause}}"),
        ],
        COUNT,
    )


def _states() -> Json:
    return timeline(
        "What the driver asks for",
        "Recovery action, and memory that is replaced at the next reset or cannot be. "
        "Anything but none: follow the runbook.",
        [
            Query(
                f"(node_gpu:recovery_action:code{{{GPU}}}) > bool 0",
                "{{node}} {{uuid}} recovery",
            ),
            _card("node_gpu:row_remap_pending:flag", "row waits"),
            _card("node_gpu:retired_pages_pending:flag", "page waits"),
            Query(
                f"2 * (node_gpu:row_remap_failure:flag{{{GPU}}})",
                "{{node}} {{uuid}} no spare row",
            ),
        ],
        Field(
            "none",
            words={0: ("none", GREEN), 1: ("reset", ORANGE), 2: ("replace", RED)},
        ),
    )


def _link_errors() -> Json:
    return timeseries(
        "PCIe replays and NVLink errors",
        "Per second. More than eight replays a minute: reseat the card or its riser.",
        [
            _card("node_gpu:pcie_replays:rate5m", "PCIe"),
            _card("node_gpu:nvlink_errors:rate5m", "{{error}}"),
        ],
        Field("cps", 3, low=0),
    )


def _cards() -> Json:
    return timeseries(
        "GPUs that are seen",
        "Of each node, by any source, and dashed the most within six hours: below it "
        "a card is lost. Instances of MIG beside them.",
        [
            Query(promql.per_node("node:gpus:count"), "{{node}}"),
            Query(promql.per_node("node:gpus:max_count6h"), "{{node}} most"),
            _card("node_gpu:mig_instances:count", "instances"),
        ],
        COUNT,
        dashed="/ most$/",
    )


def _age() -> Json:
    return timeline(
        "GPU telemetry works",
        "Whether a node's sources can read its cards at all, and whether each card "
        "that was there still answers.",
        [
            Query(promql.per_node("node:gpu_collection:ok", "min"), "{{node}} sources"),
            _card("node_gpu:up:flag"),
        ],
        Field("none", words={0: ("no", RED), 1: ("yes", GREEN)}),
    )


def _intervals() -> Json:
    interval = f"max by (node, source) (inferops_gpu_sample_interval_seconds{{{NODE}}})"
    return timeseries(
        "How closely the driver samples",
        "Median time between two distinct samples of the driver's buffers, as seen. "
        "What is shorter than this is in no figure here. And the age of the last "
        "reading, dashed.",
        [
            Query(interval, "{{node}} {{source}}"),
            Query(promql.per_node("node:gpu_collection:age_seconds"), "{{node}} age"),
        ],
        Field("s", 3, low=0),
        dashed="/ age$/",
    )


def _late() -> Json:
    def ticks(what: str) -> str:
        return promql.rate(f"inferops_gpu_sampler_{what}_total", NODE, by="node")

    return timeseries(
        "Late ticks of the sampler",
        "Share of the exporter's ticks that began more than one tick late: the node is "
        "short of processor time, or a driver call is slow.",
        [Query(f"{ticks('late_ticks')} / {ticks('ticks')}", "{{node}}")],
        RATIO,
    )


def _call_errors() -> Json:
    errors = promql.rate("inferops_gpu_call_errors_total", NODE, by="node, call, error")
    return timeseries(
        "Driver calls that failed",
        "Per second, other than what a card does not offer.",
        [Query(errors, "{{node}} {{call}} {{error}}")],
        Field("cps", 3, low=0),
    )
