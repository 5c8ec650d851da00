"""A real headless Chromium, driven by selenium."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tests.harness.poll import until

if TYPE_CHECKING:
    from selenium.webdriver import Chrome
    from selenium.webdriver.remote.webelement import WebElement

DESKTOP = (1100, 800)
PHONE = (390, 844)


class Page:
    """A window of one size; `url` is the router's."""

    def __init__(self, driver: Chrome, url: str) -> None:
        self.driver = driver
        self.url = url

    def open(self, path: str) -> None:
        self.driver.get(self.url + path)

    def by_id(self, name: str) -> WebElement:
        return self.driver.find_element("id", name)

    def css(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements("css selector", selector)

    def text(self, name: str) -> str:
        return self.by_id(name).text

    def shown(self, name: str, seconds: float = 30) -> WebElement:
        """Wait until an element is to be seen."""
        self.until(
            lambda: self.by_id(name).is_displayed(), f"#{name} is shown", seconds
        )
        return self.by_id(name)

    def until(
        self, check: Callable[[], object], what: str, seconds: float = 30
    ) -> None:
        """Wait; an element that is replaced just now has not answered yet."""
        from selenium.common.exceptions import WebDriverException

        def answer() -> object:
            try:
                return check()
            except WebDriverException:
                return None

        until(answer, f"{what} on {self.driver.current_url}", seconds=seconds)

    def run(self, script: str, *arguments: object) -> Any:
        return self.driver.execute_script(script, *arguments)

    def too_wide(self) -> int:
        """Return by how many pixels the page is wider than its window."""
        return int(
            self.run(
                "return document.documentElement.scrollWidth"
                " - document.documentElement.clientWidth"
            )
        )

    def nameless(self) -> list[str]:
        """Return controls that a screen reader could only call by their kind."""
        tree = self.driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})
        kinds = {"button", "textbox", "combobox", "radio", "checkbox", "spinbutton"}
        kinds |= {"link", "progressbar", "dialog", "region", "InputTime"}
        return [
            node["role"]["value"]
            for node in tree["nodes"]
            if not node["ignored"]
            and node.get("role", {}).get("value") in kinds
            and not node.get("name", {}).get("value")
        ]

    def complaints(self) -> list[str]:
        """Return what the browser wrote to its console."""
        return [entry["message"] for entry in self.driver.get_log("browser")]


@contextmanager
def chromium(url: str, size: tuple[int, int], downloads: object) -> Iterator[Page]:
    """Open a browser of this size; skips the test where there is none."""
    binary, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not binary or not driver:
        pytest.skip("chromium and chromedriver are not on PATH")
    selenium = pytest.importorskip("selenium.webdriver")
    options = selenium.ChromeOptions()
    options.binary_location = binary
    for argument in ("--headless=new", "--disable-dev-shm-usage", "--disable-gpu"):
        options.add_argument(argument)
    if os.geteuid() == 0:
        options.add_argument("--no-sandbox")
    options.add_experimental_option(
        "prefs", {"download.default_directory": str(downloads)}
    )
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = selenium.ChromeService(driver)
    browser = selenium.Chrome(options=options, service=service)
    try:
        width, height = size
        browser.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {
                "width": width,
                "height": height,
                "deviceScaleFactor": 1,
                "mobile": width < 600,
            },
        )
        yield Page(browser, url)
    finally:
        browser.quit()
