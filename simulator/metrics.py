"""A node's GPUs in the words of dcgm-exporter 4.8; pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from simulator.gpu import GpuSpec, GpuState

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
XID_WINDOW_SECONDS = 300.0

_MIB = 1024**2
_RESERVED_BYTES = 512 * _MIB
_XID_WORDS = {
    0: "No Error",
    48: "Double Bit ECC Error",
    74: "NVLINK Error",
    79: "GPU has fallen off the bus",
    94: "Contained ECC error",
    95: "Uncontained ECC error",
}


@dataclass(frozen=True, slots=True)
class XidReport:
    """An XID code, how often and when the driver reported it."""

    code: int
    count: int
    at: float


@dataclass(frozen=True, slots=True)
class GpuView:
    """All that one GPU exports at one time."""

    spec: GpuSpec
    state: GpuState
    used_bytes: float
    ecc_errors: int = 0
    xids: tuple[XidReport, ...] = ()

    @property
    def free_bytes(self) -> float:
        return max(self.spec.memory_bytes - _RESERVED_BYTES - self.used_bytes, 0.0)


# Name, what it is, and its value; counters only grow.
_GAUGES: Sequence[tuple[str, str, Callable[[GpuView], float]]] = (
    ("SM_CLOCK", "SM clock (MHz)", lambda gpu: gpu.state.clock_mhz),
    ("GPU_TEMP", "temperature (C)", lambda gpu: gpu.state.celsius),
    ("MEMORY_TEMP", "memory temperature (C)", lambda gpu: gpu.state.memory_celsius),
    ("POWER_USAGE", "power draw (W)", lambda gpu: gpu.state.watts),
    ("GPU_UTIL", "utilisation (%)", lambda gpu: gpu.state.utilisation * 100),
    ("FB_FREE", "memory free (MiB)", lambda gpu: gpu.free_bytes / _MIB),
    ("FB_USED", "memory used (MiB)", lambda gpu: gpu.used_bytes / _MIB),
    ("FB_RESERVED", "memory reserved (MiB)", lambda _: _RESERVED_BYTES / _MIB),
)
_COUNTERS: Sequence[tuple[str, str, Callable[[GpuView], float]]] = (
    (
        "TOTAL_ENERGY_CONSUMPTION",
        "energy since boot (mJ)",
        lambda gpu: gpu.state.joules * 1e3,
    ),
    (
        "ECC_DBE_VOL_TOTAL",
        "double-bit volatile ECC errors",
        lambda gpu: gpu.ecc_errors,
    ),
    (
        "THERMAL_VIOLATION",
        "throttled by temperature (ns)",
        lambda gpu: gpu.state.throttled_seconds * 1e9,
    ),
    ("POWER_VIOLATION", "throttled by power (ns)", lambda _: 0.0),
)


def exposition(node: str, gpus: Sequence[GpuView], now: float) -> bytes:
    """Render all families as dcgm-exporter would."""
    lines: list[str] = []
    for kind, families in (("gauge", _GAUGES), ("counter", _COUNTERS)):
        for field, words, value in families:
            name = f"DCGM_FI_DEV_{field}"
            lines += _head(name, kind, words)
            lines += [_line(name, _labels(node, gpu.spec), value(gpu)) for gpu in gpus]
    lines += _xid_last(node, gpus)
    lines += _xid_counts(node, gpus, now)
    return ("\n".join(lines) + "\n").encode()


def _xid_last(node: str, gpus: Iterable[GpuView]) -> list[str]:
    name = "DCGM_FI_DEV_XID_ERRORS"
    lines = _head(name, "gauge", "the last XID error")
    for gpu in gpus:
        code = gpu.xids[-1].code if gpu.xids else 0
        words = _XID_WORDS.get(code, "Unknown Error")
        labels = f'{_labels(node, gpu.spec)},err_code="{code}",err_msg="{words}"'
        lines.append(_line(name, labels, code))
    return lines


def _xid_counts(node: str, gpus: Iterable[GpuView], now: float) -> list[str]:
    """Count the codes of the last window; without any, one 0 without a code."""
    name = "DCGM_EXP_XID_ERRORS_COUNT"
    lines = _head(name, "gauge", "XID errors within the window")
    for gpu in gpus:
        window = f'window_size_in_ms="{XID_WINDOW_SECONDS * 1e3:.0f}"'
        labels = f"{_labels(node, gpu.spec)},{window}"
        counts: dict[int, int] = {}
        for xid in gpu.xids:
            if now - xid.at < XID_WINDOW_SECONDS:
                counts[xid.code] = counts.get(xid.code, 0) + xid.count
        if not counts:
            lines.append(_line(name, labels, 0))
        for code, count in counts.items():
            lines.append(_line(name, f'{labels},xid="{code}"', count))
    return lines


def _head(name: str, kind: str, words: str) -> list[str]:
    return [f"# HELP {name} Simulated: {words}.", f"# TYPE {name} {kind}"]


def _labels(node: str, gpu: GpuSpec) -> str:
    return (
        f'gpu="{gpu.index}",UUID="{gpu.uuid}",pci_bus_id="{gpu.pci_bus_id}",'
        f'device="nvidia{gpu.index}",modelName="{gpu.name}",Hostname="{node}"'
    )


def _line(name: str, labels: str, value: float) -> str:
    return f"{name}{{{labels}}} {value:.6f}".rstrip("0").rstrip(".")
