"""Who uses a card, process by process. Off unless asked for: each process that comes
and goes is a new series. In a container it needs the host's process ids.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from exporters.gpu.rows import Row
from exporters.nvml_library import Handle, Nvml, if_offered, may_be_absent

MOST = 64  # processes of one card, the greatest users of memory first


def processes(nvml: Nvml, gpu: Handle) -> Iterator[Row]:
    """Yield memory and share of the card's time by process."""
    found = nvml.nvmlDeviceGetComputeRunningProcesses_v3(gpu)
    # An instance's id is set under MIG, and one process may use several.
    used: dict[int, int] = {}
    for each in found:
        used[each.pid] = used.get(each.pid, 0) + (each.usedGpuMemory or 0)
    shares = _shares(nvml, gpu)
    known = {each.pid for each in found if each.usedGpuMemory is not None}
    for pid in sorted(used, key=used.__getitem__, reverse=True)[:MOST]:
        labels = {"pid": str(pid), "process": _name(nvml, pid)}
        if pid in known:
            yield Row("inferops_gpu_process_memory_bytes", used[pid], labels)
        if pid in shares:
            share = shares[pid]
            yield Row("inferops_gpu_process_utilization_ratio", share, labels)


def _shares(nvml: Nvml, gpu: Handle) -> dict[int, float]:
    found: Sequence[Any] = ()
    with may_be_absent():  # none of late, or under MIG
        found = nvml.nvmlDeviceGetProcessUtilization(gpu, 0)
    latest = sorted(found, key=lambda each: int(each.timeStamp))
    return {each.pid: each.smUtil / 100 for each in latest if each.smUtil <= 100}


def _name(nvml: Nvml, pid: int) -> str:
    """Return the program's name without its path, as little as says who it is."""
    path = if_offered(lambda: nvml.nvmlSystemGetProcessName(pid)) or ""
    return path.split(" ")[0].rpartition("/")[2]
