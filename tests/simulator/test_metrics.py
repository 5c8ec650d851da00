"""The exposition in dcgm-exporter's words."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from simulator import gpu
from simulator.gpu import Heat, gpus_of
from simulator.metrics import GpuView, XidReport, exposition
from simulator.model import NodeSpec

NODE = NodeSpec(name="sim-two", port=1, vram_bytes=48 * 1024**3, tflops=20, gpus=2)
CARDS = gpus_of(NODE)
MIB = 1024**2


def views(**faults) -> list[GpuView]:
    used = 4096 * MIB
    return [GpuView(card, gpu.begin(card, 0.0), used, **faults) for card in CARDS]


def samples(text: bytes) -> dict[str, list]:
    """Samples by name as written: the parser adds `_total` to a counter's."""
    families = text_string_to_metric_families(text.decode())
    found: dict[str, list] = {}
    for family in families:
        for sample in family.samples:
            written = f"\n{sample.name}{{".encode() in text
            name = sample.name if written else sample.name.removesuffix("_total")
            found.setdefault(name, []).append(sample)
    return found


def test_every_gpu_has_every_series_with_the_exporters_labels():
    """Names and labels as dcgm-exporter 4.8 writes them; the model says simulated."""
    found = samples(exposition("sim-two", views(), 0.0))
    assert set(found) == {
        "DCGM_FI_DEV_SM_CLOCK",
        "DCGM_FI_DEV_GPU_TEMP",
        "DCGM_FI_DEV_MEMORY_TEMP",
        "DCGM_FI_DEV_POWER_USAGE",
        "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION",
        "DCGM_FI_DEV_GPU_UTIL",
        "DCGM_FI_DEV_FB_FREE",
        "DCGM_FI_DEV_FB_USED",
        "DCGM_FI_DEV_FB_RESERVED",
        "DCGM_FI_DEV_ECC_DBE_VOL_TOTAL",
        "DCGM_FI_DEV_THERMAL_VIOLATION",
        "DCGM_FI_DEV_POWER_VIOLATION",
        "DCGM_FI_DEV_XID_ERRORS",
        "DCGM_EXP_XID_ERRORS_COUNT",
    }
    assert {len(each) for each in found.values()} == {2}
    assert found["DCGM_FI_DEV_GPU_TEMP"][1].labels == {
        "gpu": "1",
        "UUID": CARDS[1].uuid,
        "pci_bus_id": "00000000:02:00.0",
        "device": "nvidia1",
        "modelName": "Simulated TWO",
        "Hostname": "sim-two",
    }


def test_units_are_the_exporters():
    """MiB, percent, nanoseconds and millijoules."""
    card = CARDS[0]
    hot = gpu.heated(card, gpu.begin(card, 0.0), 0.0, Heat(95.5))
    state = gpu.loaded(card, hot, 2.0, 1)
    found = samples(exposition("n", [GpuView(card, state, 4096 * MIB)], 2.0))
    values = {name: each[0].value for name, each in found.items()}
    memory = [values[f"DCGM_FI_DEV_FB_{part}"] for part in ("USED", "FREE", "RESERVED")]
    assert memory == [4096, 24576 - 4096 - 512, 512]
    assert values["DCGM_FI_DEV_GPU_TEMP"] == 95.5
    assert values["DCGM_FI_DEV_GPU_UTIL"] == 65
    assert values["DCGM_FI_DEV_THERMAL_VIOLATION"] == 2e9
    assert values["DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION"] > 1000


def test_without_an_xid_one_zero_stands_for_all_codes():
    """As the exporter does: no label `xid` before the first error."""
    found = samples(exposition("n", views(), 0.0))
    count = found["DCGM_EXP_XID_ERRORS_COUNT"][0]
    assert (count.value, "xid" in count.labels) == (0, False)
    last = found["DCGM_FI_DEV_XID_ERRORS"][0]
    assert (last.value, last.labels["err_msg"]) == (0, "No Error")


def test_xids_are_counted_by_code_within_the_window():
    """The window forgets after five minutes; the last code stays."""
    xids = (XidReport(79, 1, 0.0), XidReport(48, 2, 100.0), XidReport(48, 1, 200.0))
    text = exposition("n", views(xids=xids), 299.0)
    counts = {
        sample.labels["xid"]: sample.value
        for sample in samples(text)["DCGM_EXP_XID_ERRORS_COUNT"]
        if sample.labels["gpu"] == "0"
    }
    assert counts == {"79": 1, "48": 3}
    late = samples(exposition("n", views(xids=xids), 1000.0))
    assert late["DCGM_EXP_XID_ERRORS_COUNT"][0].value == 0
    assert late["DCGM_FI_DEV_XID_ERRORS"][0].value == 48


def test_an_ecc_error_shows():
    """The volatile counter of double-bit errors."""
    found = samples(exposition("n", views(ecc_errors=7), 0.0))
    assert found["DCGM_FI_DEV_ECC_DBE_VOL_TOTAL"][0].value == 7
