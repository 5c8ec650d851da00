"""The last one of its kind vanishes: something says so, from each source.

"Count of nothing is nothing": a comparison with what is not there gives no series, and
an alert on it falls silent. So for each source, in each version, with each single name
missing, the last card goes; each alert on a card fires, and its card goes; and so on.
"""

from __future__ import annotations

import pytest

from tests.harness.cases import long_but
from tests.rules.exposition import Sample
from tests.rules.scenarios import (
    FIRST,
    GONE,
    STEP,
    Expected,
    Series,
    at,
    cards,
    goes,
    lost,
    named,
    of_card,
    passes,
    pauses,
    sources,
    stays,
    turns,
    up,
)

SOURCES = sources()
EITHER = "GpuMissing|GpuCollectionFailing"
MINUTE = 60


def test_the_last_card_is_missed_from_each_source(tmp_path) -> None:
    """One of one, and one of two, 1 min after it went; nothing before."""
    scenarios = {
        f"{name}-{count}": lost(source, f"{name}-{count}", count)
        for name, source in SOURCES.items()
        for count in (1, 2)
    }
    passes(
        tmp_path,
        scenarios.values(),
        [
            Expected(EITHER, at(-STEP), ()),
            Expected("GpuMissing", at(STEP), ()),
            Expected("GpuMissing", at(MINUTE + 2 * STEP), scenarios),
        ],
    )


@pytest.mark.parametrize("name", long_but(SOURCES, {"ours", "dcgm-4.9"}))
def test_the_last_card_is_missed_whatever_a_version_lacks(name, tmp_path) -> None:
    """Without any one of the names that the rules read, it is missed or said unread."""
    source = SOURCES[name]
    scenarios = {
        f"without-{lacking}": lost(source, f"without-{lacking}", but=lacking)
        for lacking in sorted({each.name for each in source.samples})
    }
    assert len(scenarios) > 5
    passes(
        tmp_path,
        scenarios.values(),
        [
            Expected(EITHER, at(-STEP), ()),
            Expected(EITHER, at(11 * MINUTE), scenarios),
        ],
    )


# What makes each alert on a card fire, by the names of each source; the source is left
# out where it has no such reading. Values are promtool's.
def steadily(per_second: float) -> str:
    return f"0+{per_second * STEP}x{GONE - 1} stale"


SMI_REASON = "nvidia_smi_clocks_event_reasons_counters"
HOT = {
    "ours": {"inferops_gpu_temperature_celsius": goes(99)},
    "dcgm-4.9": {"DCGM_FI_DEV_GPU_TEMP_CELSIUS": goes(99)},
    "dcgm-4.8": {"DCGM_FI_DEV_GPU_TEMP": goes(99)},
    "smi": {"nvidia_smi_temperature_gpu": goes(99)},
}
SLOWED = {
    "ours": {
        'inferops_gpu_throttled_seconds_total{reason="hw_thermal"}': steadily(0.9)
    },
    "dcgm-4.9": {"DCGM_FI_DEV_GPU_THERMAL_THROTTLE_SECONDS_TOTAL": steadily(0.9)},
    "dcgm-4.8": {"DCGM_FI_DEV_THERMAL_VIOLATION": steadily(0.9e9)},
    "smi": {f"{SMI_REASON}_sw_thermal_slowdown_seconds": steadily(0.9)},
}
SICK: dict[str, dict[str, Series]] = {
    "GpuTooHot": HOT,
    "GpuNearLimit": HOT,
    "GpuSlowedByHeat": SLOWED,
    "GpuThermalThrottled": SLOWED,
    "GpuXidCritical": {
        "ours": {
            # shortly before the sampler's last success in the golden exposition
            'inferops_gpu_xid_last_timestamp_seconds{xid="79"}': stays(1795384000),
        },
        "dcgm-4.9": {'DCGM_EXP_XID_ERRORS_COUNT{xid="79"}': goes(1)},
        "dcgm-4.8": {'DCGM_EXP_XID_ERRORS_COUNT{xid="79"}': goes(1)},
        "smi-nvml": {
            'nvidia_smi_xid_last_timestamp_seconds{xid="79"}': goes(30),
        },
    },
    "GpuXidApplication": {
        "ours": {
            # shortly before the sampler's last success in the golden exposition
            'inferops_gpu_xid_last_timestamp_seconds{xid="94"}': stays(1795384000),
        },
        "dcgm-4.9": {'DCGM_EXP_XID_ERRORS_COUNT{xid="94"}': goes(1)},
        "dcgm-4.8": {'DCGM_EXP_XID_ERRORS_COUNT{xid="94"}': goes(1)},
        "smi-nvml": {
            'nvidia_smi_xid_last_timestamp_seconds{xid="94"}': goes(30),
        },
    },
    "GpuRecoveryAction": {
        "ours": {"inferops_gpu_recovery_action": goes(1)},
        "dcgm-4.9": {"DCGM_FI_DEV_GPU_RECOVERY_ACTION": goes(1)},
        "dcgm-4.8": {"DCGM_FI_DEV_GET_GPU_RECOVERY_ACTION": goes(1)},
        "smi": {"nvidia_smi_gpu_recovery_action": goes(1)},
    },
    "GpuEccUncorrectable": {
        "ours": {"inferops_gpu_ecc_uncorrected_errors": goes(1)},
        "dcgm-4.9": {"DCGM_FI_DEV_ECC_DBE_VOL_TOTAL": goes(1)},
        "dcgm-4.8": {"DCGM_FI_DEV_ECC_DBE_VOL_TOTAL": goes(1)},
        "smi": {"nvidia_smi_ecc_errors_uncorrected_volatile_total": goes(1)},
    },
    "GpuRowRemapFailed": {
        "ours": {"inferops_gpu_row_remap_failed": goes(1)},
        "dcgm-4.9": {"DCGM_FI_DEV_ROW_REMAP_FAILED": goes(1)},
        "dcgm-4.8": {"DCGM_FI_DEV_ROW_REMAP_FAILURE": goes(1)},
        "smi": {"nvidia_smi_remapped_rows_failure": goes(1)},
    },
    "GpuRowRemapPending": {
        "ours": {"inferops_gpu_row_remap_pending": goes(1)},
        "dcgm-4.9": {"DCGM_FI_DEV_ROW_REMAP_PENDING": goes(1)},
        "dcgm-4.8": {"DCGM_FI_DEV_ROW_REMAP_PENDING": goes(1)},
        "smi": {"nvidia_smi_remapped_rows_pending": goes(1)},
    },
    "GpuRetiredPagesPending": {
        "ours": {"inferops_gpu_retired_pages_pending": goes(1)},
        "dcgm-4.9": {"DCGM_FI_DEV_PAGE_RETIRED_PENDING": goes(1)},
        "dcgm-4.8": {"DCGM_FI_DEV_RETIRED_PENDING": goes(1)},
    },
    "GpuMemoryNearlyFull": {
        "ours": {"inferops_gpu_memory_used_bytes": goes("149e9")},
        "dcgm-4.9": {"DCGM_FI_DEV_FB_USED_BYTES": goes("149e9")},
        "dcgm-4.8": {"DCGM_FI_DEV_FB_USED": goes("900000000")},
        "smi": {"nvidia_smi_memory_used_bytes": goes("85e9")},
    },
    "GpuPowerBraked": {
        "ours": {
            'inferops_gpu_throttled_seconds_total{reason="hw_power_brake"}': (
                steadily(0.9)
            )
        },
        "smi": {f"{SMI_REASON}_hw_power_brake_slowdown_seconds": steadily(0.9)},
    },
    "GpuPowerThrottled": {
        "ours": {
            'inferops_gpu_throttled_seconds_total{reason="sw_power"}': steadily(0.9)
        },
        "dcgm-4.9": {"DCGM_FI_DEV_GPU_POWER_THROTTLE_SECONDS_TOTAL": steadily(0.9)},
        "dcgm-4.8": {"DCGM_FI_DEV_POWER_VIOLATION": steadily(0.9e9)},
        "smi": {f"{SMI_REASON}_sw_power_cap_seconds": steadily(0.9)},
    },
    "GpuPcieReplaying": {
        "ours": {"inferops_gpu_pcie_replays_total": steadily(1)},
        "dcgm-4.9": {"DCGM_FI_DEV_PCIE_REPLAY_TOTAL": steadily(1)},
        "dcgm-4.8": {"DCGM_FI_DEV_PCIE_REPLAY_COUNTER": steadily(1)},
    },
    "GpuNvlinkErrors": {
        "ours": {'inferops_gpu_nvlink_errors_total{error="replay"}': steadily(1)},
        "dcgm-4.9": {"DCGM_FI_DEV_NVLINK_REPLAY_ERROR_TOTAL": steadily(1)},
        "dcgm-4.8": {"DCGM_FI_DEV_NVLINK_REPLAY_ERROR_COUNT_TOTAL": steadily(1)},
    },
}


def sick(source: str, node: str, readings: Series) -> Series:
    """The only card of a node has a fault, and vanishes with it."""
    found = dict(lost(SOURCES[source], node))
    job = SOURCES[source].job
    key = "UUID" if job == "dcgm" else "uuid"
    for series, values in readings.items():
        name, _, rest = series.partition("{")
        label, _, value = rest.rstrip("}").partition("=")
        labels = {label: value.strip('"')} if label else {}
        given = next(
            (
                each
                for each in cards(SOURCES[source], 1)
                if each.name == name and of_card(each) and _has(each, labels)
            ),
            Sample(name, {**labels, key: FIRST}, ""),
        )
        found[named(given, job, node)] = values
    return found


def _has(sample: Sample, labels: dict[str, str]) -> bool:
    return labels.items() <= sample.labels.items()


@pytest.mark.parametrize("alert", SICK)
def test_an_alert_whose_card_vanishes_is_followed(alert, tmp_path) -> None:
    """From each source that has the reading it fires; then the card is missed."""
    scenarios = {
        source: sick(source, source, readings)
        for source, readings in SICK[alert].items()
    }
    passes(
        tmp_path,
        scenarios.values(),
        [
            # some wait for half an hour until they fire
            Expected(alert, at(-STEP), scenarios, state="pending|firing"),
            Expected("GpuMissing", at(-STEP), ()),
            Expected("GpuMissing", at(MINUTE + 2 * STEP), scenarios),
        ],
    )


# --- what is no lost card ---


def exposed(source: str, node: str, values=stays) -> dict[str, str]:
    """All that a source exports of one card, with the same course for each series."""
    found = SOURCES[source]
    return {
        named(each, found.job, node): values(each.value) for each in cards(found, 1)
    }


def restarted(source: str, node: str, down: int, blank: int) -> Series:
    """Not scraped for `down` steps, and without a GPU series for `blank` more."""
    job = SOURCES[source].job
    return {
        up(job, node): pauses(1, down, 1, "0") if down else stays(1),
        **exposed(source, node, lambda value: pauses(value, down + blank, value)),
    }


def not_read(node: str, reason: str) -> str:
    return named(
        Sample("inferops_gpus_not_read", {"reason": reason}, ""), "exporter", node
    )


def ours(
    node: str,
    gpus: str,
    *,
    left_out: str | None = None,
    forbidden: str | None = None,
    collector: str | None = None,
) -> Series:
    """Our exporter by its counts alone, and its collector."""
    well = Sample("inferops_exporter_collector_up", {"collector": "nvml"}, "")
    return {
        up("exporter", node): stays(1),
        named(Sample("inferops_gpus", {}, ""), "exporter", node): gpus,
        not_read(node, "left_out"): left_out or stays(0),
        not_read(node, "no_permission"): forbidden or stays(0),
        named(well, "exporter", node): collector or stays(1),
    }


def quiet() -> dict[str, Series]:
    """Nodes whose cards are all there, or that never had one."""
    found: dict[str, Series] = {}
    for name in SOURCES:
        for down, blank in ((8, 0), (8, 2), (40, 2)):
            node = f"{name}-restarts-{down}-{blank}"
            found[node] = restarted(name, node, down, blank)
        node = f"{name}-removed"
        found[node] = exposed(name, node, goes) | {up(SOURCES[name].job, node): goes(1)}
    for name in ("dcgm-4.9", "dcgm-4.8"):
        # between two scrapes, and half a minute until its first reading
        found[f"{name}-blank"] = restarted(name, f"{name}-blank", 0, 2)
        node = f"{name}-slow"
        found[node] = restarted(name, node, 8, 7)
    for job in ("dcgm", "nvidia_smi", "exporter", "node"):
        found[f"{job}-no-card"] = {up(job, f"{job}-no-card"): stays(1)}
    found["ours-no-card"] = ours("ours-no-card", stays(0))
    found["ours-selects-fewer"] = ours("fewer", turns(2, 1), left_out=turns(0, 1))
    # The other card of the machine, which is another node's, is lost.
    found["ours-other-lost"] = {
        **exposed("ours", "other"),
        up("exporter", "other"): stays(1),
        not_read("other", "left_out"): turns(1, 0),
    }
    return found


@pytest.mark.long
def test_what_is_no_lost_card_stays_silent(tmp_path) -> None:
    """Restarts, late readings, nodes that go or have no card, a narrower choice."""
    passes(
        tmp_path,
        quiet().values(),
        [
            Expected(EITHER, at(seconds), ())
            for seconds in (*range(0, 5 * MINUTE, STEP), 12 * MINUTE)
        ],
    )


@pytest.mark.long
def test_a_card_that_another_source_sees_is_not_lost(tmp_path) -> None:
    """Only what nobody sees is missing, and who fails sees nothing of it."""
    both = {"a": ("ours", "dcgm-4.9"), "b": ("dcgm-4.8", "smi"), "c": ("ours", "smi")}
    seen = {
        f"{node}-seen": {
            **lost(SOURCES[one], f"{node}-seen"),
            **exposed(other, f"{node}-seen"),
            up(SOURCES[other].job, f"{node}-seen"): stays(1),
        }
        for node, (one, other) in both.items()
    }
    # The card is lost to both; the second one says so by failing.
    gone = {}
    for node, (one, other) in both.items():
        name = f"{node}-gone"
        success = named(
            Sample("nvidia_smi_last_collect_success", {}, ""), "nvidia_smi", name
        )
        gone[name] = {
            **lost(SOURCES[one], name),
            **lost(SOURCES[other], name),
            **({success: turns(1, 0)} if other == "smi" else {}),
        }
    passes(
        tmp_path,
        [*seen.values(), *gone.values()],
        [
            Expected("GpuMissing", at(-STEP), ()),
            Expected("GpuMissing", at(3 * MINUTE), gone),
            Expected("GpuMissing", at(12 * MINUTE), gone),
        ],
    )


def test_a_source_that_cannot_say_is_reported_instead(tmp_path) -> None:
    """Lost telemetry is no lost card: no node is taken out, people are alerted."""
    success = Sample("nvidia_smi_last_collect_success", {}, "")
    scenarios = {
        # its library closes, as while the driver is reloaded
        "closed": ours(
            "closed",
            goes(1),
            left_out=goes(0),
            forbidden=goes(0),
            collector=turns(1, 0),
        ),
        "forbidden": ours(
            "forbidden", turns(1, 0), forbidden=turns(0, 1), collector=turns(1, 0)
        ),
        # started while the driver's library was missing: nobody looks for cards
        "no-collector": {
            up("exporter", "no-collector"): stays(1),
            **exposed("ours", "no-collector", goes),
        },
        "smi-fails": {
            **lost(SOURCES["smi"], "smi-fails"),
            named(success, "nvidia_smi", "smi-fails"): turns(1, 0),
        },
        **{
            f"{name}-down": {
                up(SOURCES[name].job, f"{name}-down"): turns(1, 0),
                **exposed(name, f"{name}-down", goes),
            }
            for name in ("dcgm-4.9", "smi")
        },
    }
    passes(
        tmp_path,
        scenarios.values(),
        [
            Expected("GpuMissing", at(2 * MINUTE), ()),
            Expected("GpuMissing", at(12 * MINUTE), ()),
            Expected("GpuCollectionFailing", at(9 * MINUTE), ()),
            Expected("GpuCollectionFailing", at(11 * MINUTE), scenarios),
        ],
    )
