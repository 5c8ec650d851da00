"""The exporter as a process while the driver under it changes."""

from __future__ import annotations

import pytest

from tests.exporters.driver import UUID, Driver, exporting, scrape
from tests.exporters.exposition import series
from tests.harness.poll import until

pytestmark = pytest.mark.e2e

UP = series("inferops_gpu_up", uuid=UUID)
COLLECTOR = series("inferops_exporter_collector_up", collector="nvml")
TEMPERATURE = series("inferops_gpu_temperature_celsius", uuid=UUID)


@pytest.fixture
def driver(tmp_path) -> Driver:
    made = Driver(tmp_path)
    made.install("550.1")
    made.load("550.1")
    return made


def well(url: str) -> bool:
    found = scrape(url)
    return (found.get("inferops_gpus"), found.get(UP), found[COLLECTOR]) == (1, 1, 1)


@pytest.mark.parametrize("keep", [False, True], ids=["replaced", "beside"])
def test_a_driver_upgraded_without_a_reboot(driver, keep) -> None:
    """The new library is loaded, whether the old file is deleted or kept."""
    with exporting(driver, env={}) as url:
        until(lambda: well(url), "the card is read")
        driver.install("560.2", keep=keep)
        assert well(url)  # the library and the module in use are both the old ones
        driver.load("560.2")
        until(lambda: not well(url), "the old library fails")
        until(lambda: well(url), "the card is read by the new one", seconds=60)


def test_half_of_an_upgrade_restarts_nothing(driver) -> None:
    """While only the module is new, no new process would do better."""
    with exporting(driver, env={}) as url:
        until(lambda: well(url), "the card is read")
        driver.load("560.2")
        until(lambda: not well(url), "the library fails")
        found = until(lambda: closed(url), "nothing is claimed")
        assert found[COLLECTOR] == 0
        driver.install("560.2")
        until(lambda: well(url), "the card is read by the new library", seconds=60)


def closed(url: str) -> dict[str, float] | None:
    found = scrape(url)
    return None if "inferops_gpus" in found else found


@pytest.mark.parametrize(
    "answer", ["unknown", pytest.param("forbidden", marks=pytest.mark.long)]
)
def test_a_card_whose_every_call_fails(driver, answer) -> None:
    """It is not up, and no reading of it is left; it comes back by itself."""
    with exporting(driver, env={}) as url:
        until(lambda: well(url), "the card is read")
        driver.load(answer)
        found = until(lambda: not_up(url), "it does not count")
        assert TEMPERATURE not in found
        assert found.get("inferops_gpus", 0) == 0
        driver.load("550.1")
        until(lambda: well(url), "the card is back", seconds=90)


def not_up(url: str) -> dict[str, float] | None:
    found = scrape(url)
    return found if found.get(UP) != 1 else None
