"""A node's GPUs and what is wrong with them, over time; pure."""

from __future__ import annotations

from simulator import gpu as physics
from simulator.faults import AnyFault, Ecc, Hot, OutOfMemory, Xid
from simulator.gpu import GpuSpec, Heat, gpus_of
from simulator.metrics import GpuView, XidReport
from simulator.model import NodeSpec

_FULL = 0.99  # of the memory, when another process holds it


class Hardware:
    """The GPUs of one node; the caller tells time and load."""

    def __init__(self, node: NodeSpec, now: float) -> None:
        self._gpus = gpus_of(node)
        self._states = {gpu.index: physics.begin(gpu, now) for gpu in self._gpus}
        self._ecc: dict[int, int] = {}
        self._xids: dict[int, tuple[XidReport, ...]] = {}
        self._full = False

    def observe(self, now: float, streams: int) -> None:
        """Let time pass, and note the load from now on."""
        for gpu in self._gpus:
            state = self._states[gpu.index]
            self._states[gpu.index] = physics.loaded(gpu, state, now, streams)

    @property
    def throttled(self) -> bool:
        """Whether the slowest GPU holds the node back."""
        return any(state.throttled for state in self._states.values())

    def put(self, fault: AnyFault, now: float) -> None:
        if isinstance(fault, Hot):
            heat = Heat(fault.celsius, fault.seconds)
            for gpu in self._chosen(fault.gpu):
                self._heat(gpu, now, heat)
        elif isinstance(fault, Ecc):
            self._ecc = {gpu.index: fault.count for gpu in self._chosen(fault.gpu)}
        elif isinstance(fault, Xid):
            for gpu in self._chosen(fault.gpu):
                report = XidReport(fault.code, fault.count, now)
                reports = (*self._xids.get(gpu.index, ()), report)
                self._xids[gpu.index] = reports[-64:]
        elif isinstance(fault, OutOfMemory):
            self._full = True

    def clear(self, fault: AnyFault, now: float) -> None:
        """As after a repair and a reboot: the driver has forgotten."""
        if isinstance(fault, Hot):
            for gpu in self._gpus:
                self._heat(gpu, now, None)
        elif isinstance(fault, Ecc):
            self._ecc = {}
        elif isinstance(fault, Xid):
            self._xids = {}
        elif isinstance(fault, OutOfMemory):
            self._full = False

    def view(self, used_bytes: float) -> tuple[GpuView, ...]:
        """What each GPU exports; models lie in equal parts on all of them."""
        return tuple(
            GpuView(
                spec=gpu,
                state=self._states[gpu.index],
                used_bytes=self._used(gpu, used_bytes),
                ecc_errors=self._ecc.get(gpu.index, 0),
                xids=self._xids.get(gpu.index, ()),
            )
            for gpu in self._gpus
        )

    def __len__(self) -> int:
        return len(self._gpus)

    def _used(self, gpu: GpuSpec, used_bytes: float) -> float:
        share = used_bytes / len(self._gpus)
        return max(share, _FULL * gpu.memory_bytes) if self._full else share

    def _chosen(self, index: int | None) -> tuple[GpuSpec, ...]:
        """One GPU, or all."""
        return self._gpus if index is None else (self._gpus[index],)

    def _heat(self, gpu: GpuSpec, now: float, heat: Heat | None) -> None:
        state = self._states[gpu.index]
        self._states[gpu.index] = physics.heated(gpu, state, now, heat)
