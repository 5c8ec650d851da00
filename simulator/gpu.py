"""A simulated GPU's temperature, power and clock, following its load; pure.

First order: each nears the level that belongs to the load, at its own pace.
The levels come from a real H200 under Ollama (49 to 53 °C, 62 to 81 % busy, a
third to a half of its power), where one stream and sixteen look alike.
"""

from __future__ import annotations

import math
import uuid
from dataclasses import dataclass, replace

from simulator.model import NodeSpec

IDLE_CELSIUS = 36.0
BUSY_CELSIUS = 62.0
SLOWDOWN_CELSIUS = 90.0  # clocks fall from here on
SLOWDOWN_TIMES = 1.6  # how much slower a throttled GPU decodes
_THERMAL_SECONDS = 12.0
_POWER_SECONDS = 1.0
_UTILISATION_ONE, _UTILISATION_MANY = 0.65, 0.85
_MANY_STREAMS = 8
_MAX_CLOCK_MHZ = 1980.0
_IDLE_CLOCK_MHZ = 345.0
_MEMORY_ABOVE_CORE_CELSIUS = 6.0


@dataclass(frozen=True, slots=True)
class Heat:
    """What the fault `hot` does: nears `celsius` at this pace; 0: at once."""

    celsius: float
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class GpuState:
    """A GPU at one time; counters only grow."""

    at: float
    celsius: float = IDLE_CELSIUS
    watts: float = 0.0
    streams: int = 0
    heat: Heat | None = None
    throttled_seconds: float = 0.0
    joules: float = 0.0

    @property
    def throttled(self) -> bool:
        return self.celsius >= SLOWDOWN_CELSIUS

    @property
    def utilisation(self) -> float:
        if not self.streams:
            return 0.0
        more = min(self.streams - 1, _MANY_STREAMS) / _MANY_STREAMS
        return _UTILISATION_ONE + more * (_UTILISATION_MANY - _UTILISATION_ONE)

    @property
    def memory_celsius(self) -> float:
        return self.celsius + _MEMORY_ABOVE_CORE_CELSIUS

    @property
    def clock_mhz(self) -> float:
        if self.throttled:
            return _MAX_CLOCK_MHZ / SLOWDOWN_TIMES
        return _MAX_CLOCK_MHZ if self.streams else _IDLE_CLOCK_MHZ


@dataclass(frozen=True, slots=True)
class GpuSpec:
    """One GPU of a node, as DCGM would name it."""

    index: int
    uuid: str
    name: str
    pci_bus_id: str
    memory_bytes: float
    power_limit_watts: float

    @property
    def idle_watts(self) -> float:
        return 0.12 * self.power_limit_watts

    def power(self, state: GpuState) -> float:
        """The level that power nears under the state's load."""
        busy = 0.38 * self.power_limit_watts * state.utilisation
        level = self.idle_watts + busy
        return level / SLOWDOWN_TIMES if state.throttled else level


def gpus_of(node: NodeSpec) -> tuple[GpuSpec, ...]:
    """The node's GPUs: its memory and TFLOPS in equal parts."""
    label = node.name.removeprefix("sim-").upper()
    return tuple(
        GpuSpec(
            index=index,
            uuid=f"GPU-{uuid.uuid5(uuid.NAMESPACE_OID, f'{node.name}/{index}')}",
            name=f"Simulated {label}",
            pci_bus_id=f"00000000:{index + 1:02X}:00.0",
            memory_bytes=node.vram_bytes / node.gpus,
            # 450 W at the RTX 4090's 82.6 TFLOPS, 700 W at the H200's 133.8
            power_limit_watts=50 + 4.85 * node.tflops / node.gpus,
        )
        for index in range(node.gpus)
    )


def begin(gpu: GpuSpec, now: float) -> GpuState:
    return GpuState(at=now, watts=gpu.idle_watts)


def advance(gpu: GpuSpec, state: GpuState, now: float) -> GpuState:
    """Move to `now` under the load and heat that the state carries."""
    seconds = max(now - state.at, 0.0)
    heat = state.heat
    level = IDLE_CELSIUS + (BUSY_CELSIUS - IDLE_CELSIUS) * state.utilisation
    pace = _THERMAL_SECONDS
    if heat is not None:
        level, pace = heat.celsius, heat.seconds
    watts = _near(state.watts, gpu.power(state), seconds, _POWER_SECONDS)
    return replace(
        state,
        at=max(now, state.at),
        celsius=_near(state.celsius, level, seconds, pace),
        watts=watts,
        throttled_seconds=state.throttled_seconds + seconds * state.throttled,
        joules=state.joules + seconds * (state.watts + watts) / 2,
    )


def heated(gpu: GpuSpec, state: GpuState, now: float, heat: Heat | None) -> GpuState:
    """Put heat on, or take it off: what came at once goes at once."""
    state = advance(gpu, state, now)
    old, celsius = state.heat, state.celsius
    if heat is not None and heat.seconds == 0:
        celsius = heat.celsius
    elif heat is None and old is not None and old.seconds == 0:
        celsius = BUSY_CELSIUS if state.streams else IDLE_CELSIUS
    return replace(state, heat=heat, celsius=celsius)


def loaded(gpu: GpuSpec, state: GpuState, now: float, streams: int) -> GpuState:
    """Change the load from `now` on."""
    return replace(advance(gpu, state, now), streams=streams)


def _near(value: float, level: float, seconds: float, pace: float) -> float:
    if pace <= 0:
        return level
    return level + (value - level) * math.exp(-seconds / pace)
