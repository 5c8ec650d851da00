"""The ledger beside the driver: what the figures are made of."""

from __future__ import annotations

import pytest

from bench.energy import Driver, figures, show


def phase(keys, began, used):
    return {"keys": keys, "began": began, "ended": began + 10.0, "used": used}


def test_figures():
    """100 W idle, 300 W while somebody asks: what is beyond idle is the key's."""
    driver = Driver(lambda: 0.0)
    joules = 0.0
    for second in range(100):
        driver.looks.append((float(second), joules))
        joules += 300.0 if 10 <= second < 20 or 40 <= second < 50 else 100.0
    phases = [
        phase(["alice"], 10.0, {"alice": 2000.0, "bob": 0.0}),
        phase(["bob"], 40.0, {"alice": 0.0, "bob": 2200.0}),
    ]
    begin = {"joules": 0.0, "idle_joules": 0.0, "metered_joules": 0.0}
    end = {"joules": 4200.0, "idle_joules": 9000.0, "metered_joules": 13200.0}
    found = figures(driver, (0.0, 90.5), (begin, end), phases, {"usage": []})
    assert found["driver_joules"] == pytest.approx(13050.0)
    assert found["ledger_joules"] == 13200.0
    assert found["idle_watts"] == pytest.approx(100.0)
    beyond = [each["beyond_idle"] for each in found["phases"]]
    assert beyond == pytest.approx([2000.0, 2000.0])
    assert "+1.15 %" in show(found)
    assert "+10.0 %" in show(found)
    with pytest.raises(LookupError):
        driver.at(200.0)
