"""MIG: the parts that a card is cut into, each with series of its own.

Their names differ from the whole card's, so that a sum over cards counts nothing
twice. Looked for anew at each slow pass: instances come and go.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from exporters.gpu.activity import Activity
from exporters.gpu.probes import Troubles
from exporters.gpu.readings import memory
from exporters.gpu.rows import Row
from exporters.nvml_library import (
    MIG_ENABLED,
    Handle,
    Meaning,
    Nvml,
    NvmlError,
    may_be_absent,
    meaning,
)

PERIOD_SECONDS = 10.0
PREFIX = "inferops_gpu_instance"

# As the driver names an instance: "NVIDIA H200 MIG 1g.18gb".
_PROFILE = re.compile(r"MIG (\S+)")


@dataclass(slots=True)
class _Instance:
    handle: Handle
    labels: Mapping[str, str]
    name: str
    activity: Activity | None
    rows: tuple[Row, ...] = ()


def parts(nvml: Nvml, handle: Handle) -> Iterator[tuple[str, Handle]]:
    """Yield UUID and handle of each MIG instance of a card; raises NvmlError."""
    if nvml.nvmlDeviceGetMigMode(handle)[0] != MIG_ENABLED:
        return
    for index in range(nvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
        with may_be_absent():  # an index that is free
            part = nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, index)
            yield nvml.nvmlDeviceGetUUID(part), part


class Instances:
    """The MIG instances of one card."""

    def __init__(
        self, nvml: Nvml, handle: Handle, parent: str, troubles: Troubles, *, gpm: bool
    ) -> None:
        self._nvml = nvml
        self._handle = handle
        self._parent = parent
        self._troubles = troubles
        self._gpm = gpm
        self._found: dict[str, _Instance] = {}
        self._due = 0.0

    def step(self, now: float) -> None:
        """Read what is due; raises NvmlError where the card or library is gone."""
        if now >= self._due:
            self._due = now + PERIOD_SECONDS
            self._look()
        for instance in self._first_of_each():
            self._read(instance)
            if instance.activity is not None:
                instance.activity.step(now)

    def _first_of_each(self) -> tuple[_Instance, ...]:
        """Return one compute instance of each GPU instance.

        Memory and activity are the GPU instance's: told of all that share it, a sum
        would count them twice.
        """
        found: dict[str, _Instance] = {}
        for instance in tuple(self._found.values()):
            found.setdefault(instance.labels["gpu_instance"], instance)
        return tuple(found.values())

    def _look(self) -> None:
        call = "nvmlDeviceGetMigDeviceHandleByIndex"
        try:
            found = dict(self._listed())
        except NvmlError as error:
            self._troubles.note(call, error)
            found = {}
        else:
            self._troubles.over(call)
        for uuid, instance in self._found.items():
            if uuid not in found and instance.activity is not None:
                instance.activity.end()
        self._found = found

    def _listed(self) -> Iterator[tuple[str, _Instance]]:
        for uuid, part in parts(self._nvml, self._handle):
            with may_be_absent():
                yield uuid, self._found.get(uuid) or self._opened(part, uuid)

    def _opened(self, part: Handle, uuid: str) -> _Instance:
        nvml = self._nvml
        name = nvml.nvmlDeviceGetName(part)
        instance = nvml.nvmlDeviceGetGpuInstanceId(part)
        match = _PROFILE.search(name)
        labels = {
            "uuid": uuid,
            "gpu_instance": str(instance),
            "compute_instance": str(nvml.nvmlDeviceGetComputeInstanceId(part)),
            "profile": match[1] if match else "",
        }
        activity = None
        if self._gpm:
            activity = Activity(nvml, self._handle, self._troubles, PREFIX, instance)
        return _Instance(part, labels, name, activity)

    def _read(self, instance: _Instance) -> None:
        call = "nvmlDeviceGetMemoryInfo MIG"
        try:
            rows = memory(self._nvml, instance.handle)
            instance.rows = tuple(
                row._replace(name=row.name.replace("inferops_gpu", PREFIX))
                for row in rows
            )
        except NvmlError as error:
            instance.rows = ()
            if meaning(error) is Meaning.LOST:  # destroyed; the card itself may be well
                self._due = 0.0
                return
            self._troubles.note(call, error)
            return
        self._troubles.over(call)

    def rows(self) -> Iterator[Row]:
        """Yield the instances' series, with their own uuid among the labels."""
        for instance in tuple(self._found.values()):
            about = {"parent_uuid": self._parent, "name": instance.name}
            yield Row(f"{PREFIX}_info", 1, {**instance.labels, **about})
            activity = instance.activity.rows() if instance.activity else ()
            for row in (*instance.rows, *activity):
                yield row._replace(labels={**instance.labels, **row.labels})

    def end(self) -> None:
        for instance in self._found.values():
            if instance.activity is not None:
                instance.activity.end()
