"""What a card is: read once, when the library has been opened."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from exporters.nvml_library import (
    MIG_ENABLED,
    Handle,
    Nvml,
    if_offered,
)

GA100 = (8, 0)
AMPERE = 8


@dataclass(frozen=True, slots=True)
class DeviceInfo:
    """about: the labels of the card's info series, `uuid` apart."""

    uuid: str
    about: Mapping[str, str]
    power_semantics: str  # of nvmlDeviceGetPowerUsage; empty where it is not known


def read(nvml: Nvml, handle: Handle, index: int, driver: str) -> DeviceInfo:
    """Ask for a card's identity; raises NvmlError where it has none."""
    about = {
        "gpu": str(index),
        "name": nvml.nvmlDeviceGetName(handle),
        "driver_version": driver,
        "pci_bus_id": _decoded(nvml.nvmlDeviceGetPciInfo(handle).busId),
    }
    generation = if_offered(lambda: nvml.nvmlDeviceGetCudaComputeCapability(handle))
    vbios = if_offered(lambda: nvml.nvmlDeviceGetVbiosVersion(handle))
    mig = if_offered(lambda: nvml.nvmlDeviceGetMigMode(handle))
    if generation is not None:
        about["compute_capability"] = ".".join(map(str, generation))
    if vbios is not None:
        about["vbios_version"] = vbios
    if mig is not None:
        about["mig"] = "enabled" if mig[0] == MIG_ENABLED else "disabled"
    semantics = "" if generation is None else _semantics(*generation)
    return DeviceInfo(nvml.nvmlDeviceGetUUID(handle), about, semantics)


def _semantics(major: int, minor: int) -> str:
    averaged = major >= AMPERE and (major, minor) != GA100
    return "avg_1s" if averaged else "instant"


def _decoded(text: str | bytes) -> str:
    # pynvml gives bytes for strings inside structures, str for all others.
    return text.decode() if isinstance(text, bytes) else text
