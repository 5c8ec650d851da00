"""A GPU's heat, power and counters over time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator import gpu
from simulator.faults import AnyFault, Ecc, Hot, OutOfMemory, Xid
from simulator.gpu import BUSY_CELSIUS, IDLE_CELSIUS, Heat, gpus_of
from simulator.hardware import Hardware
from simulator.model import NodeSpec

NODE = NodeSpec(name="sim-4090", port=1, vram_bytes=24e9, tflops=82.6)
TWO = NodeSpec(name="sim-two", port=1, vram_bytes=48e9, gpus=2)
(CARD,) = gpus_of(NODE)


def test_warms_up_under_load_and_cools_down_after():
    """It nears the level of its load and of idleness, never beyond."""
    state = gpu.loaded(CARD, gpu.begin(CARD, 0.0), 0.0, 8)
    warm = gpu.advance(CARD, state, 12.0)
    hot = gpu.advance(CARD, state, 600.0)
    assert IDLE_CELSIUS < warm.celsius < hot.celsius < BUSY_CELSIUS
    assert hot.watts > 2 * CARD.idle_watts
    cool = gpu.advance(CARD, gpu.loaded(CARD, hot, 600.0, 0), 1200.0)
    assert cool.celsius == pytest.approx(IDLE_CELSIUS)
    assert cool.watts == pytest.approx(CARD.idle_watts)


@given(st.floats(0.1, 100), st.integers(0, 16))
def test_how_often_one_looks_does_not_matter(seconds, streams):
    """Two steps lead where one step leads."""
    state = gpu.loaded(CARD, gpu.begin(CARD, 0.0), 0.0, streams)
    once = gpu.advance(CARD, state, seconds)
    twice = gpu.advance(CARD, gpu.advance(CARD, state, seconds / 3), seconds)
    assert twice.celsius == pytest.approx(once.celsius)
    assert twice.watts == pytest.approx(once.watts)


def test_heat_at_once_comes_and_goes_at_once():
    """What tests need: the threshold is crossed by the next scrape."""
    state = gpu.heated(CARD, gpu.begin(CARD, 0.0), 5.0, Heat(96.0))
    assert (state.celsius, state.throttled) == (96.0, True)
    assert gpu.heated(CARD, state, 6.0, None).celsius == IDLE_CELSIUS


def test_heat_with_a_pace_takes_its_time_both_ways():
    """What a demonstration needs: a curve."""
    state = gpu.heated(CARD, gpu.begin(CARD, 0.0), 0.0, Heat(96.0, 10.0))
    assert state.celsius == IDLE_CELSIUS
    state = gpu.advance(CARD, state, 10.0)
    assert state.celsius == pytest.approx(96 - 60 * 0.36788, abs=0.01)
    cooling = gpu.heated(CARD, state, 10.0, None)
    assert cooling.celsius == state.celsius
    assert gpu.advance(CARD, cooling, 20.0).celsius < state.celsius


def test_a_throttled_gpu_counts_the_time_and_clocks_down():
    """Only the hot seconds are counted; the clock falls meanwhile."""
    cold = gpu.advance(CARD, gpu.loaded(CARD, gpu.begin(CARD, 0.0), 0.0, 1), 7.0)
    hot = gpu.heated(CARD, cold, 7.0, Heat(95.0))
    later = gpu.advance(CARD, hot, 10.0)
    assert (hot.throttled_seconds, later.throttled_seconds) == (0.0, 3.0)
    assert later.clock_mhz < cold.clock_mhz


def test_energy_is_power_over_time():
    """At a steady load, joules are watts times seconds."""
    state = gpu.advance(CARD, gpu.begin(CARD, 0.0), 100.0)
    assert state.joules == pytest.approx(100 * CARD.idle_watts)


def test_a_node_shares_its_memory_out_to_its_gpus():
    """Each GPU has its own name in every series."""
    first, second = gpus_of(TWO)
    assert first.memory_bytes == second.memory_bytes == 24e9
    assert first.uuid != second.uuid
    assert first.uuid == gpus_of(TWO)[0].uuid
    assert first.name == "Simulated TWO"


def test_a_fault_strikes_one_gpu_or_all():
    """`gpu` chooses; without it every GPU is struck."""
    hardware = Hardware(TWO, 0.0)
    hardware.put(Ecc(fault="ecc", count=3, gpu=1), 0.0)
    hardware.put(Hot(fault="hot", celsius=91), 0.0)
    hardware.put(Xid(fault="xid", code=48, gpu=0), 0.0)
    first, second = hardware.view(0.0)
    assert (first.ecc_errors, second.ecc_errors) == (0, 3)
    assert first.state.celsius == second.state.celsius == 91
    assert ([xid.code for xid in first.xids], second.xids) == ([48], ())


def test_clearing_is_as_after_a_repair():
    """No fault leaves a trace behind."""
    hardware = Hardware(NODE, 0.0)
    faults: list[AnyFault] = [
        Ecc(fault="ecc"),
        Hot(fault="hot"),
        Xid(fault="xid"),
        OutOfMemory(fault="out_of_memory"),
    ]
    before = hardware.view(1e9)
    for fault in faults:
        hardware.put(fault, 0.0)
    assert hardware.throttled
    (full,) = hardware.view(1e9)
    assert full.used_bytes / full.spec.memory_bytes == pytest.approx(0.99)
    for fault in faults:
        hardware.clear(fault, 0.0)
    assert hardware.view(1e9) == before
