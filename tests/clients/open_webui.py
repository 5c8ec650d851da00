"""Open WebUI as docker-compose.yml sets it up, and what a person does on its page."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import requests
import yaml

from tests.harness.browser import Page
from tests.harness.poll import until
from tests.harness.ports import free_port
from tests.harness.process import ROOT, Process

PROGRAM = os.environ.get("INFEROPS_OPEN_WEBUI", "")
"""`make test-chat` installs it and sets this."""
SHIPPED = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"][
    "open-webui"
]
_START_SECONDS = 600  # it imports much and makes its database
_PAGE_SECONDS = 120
# Nothing is fetched, and the model is asked for the answer only: not for a title,
# tags and questions that might follow.
_ALONE = {
    "OFFLINE_MODE": "true",
    "HF_HUB_OFFLINE": "1",
    "ENABLE_TITLE_GENERATION": "false",
    "ENABLE_TAGS_GENERATION": "false",
    "ENABLE_FOLLOW_UP_GENERATION": "false",
}


@contextmanager
def open_webui(folder: Path, settings: Mapping[str, str]) -> Iterator[str]:
    """Start it, with `settings` over those of docker-compose.yml; gives its URL."""
    port = free_port()
    shipped = {k: v for k, v in SHIPPED["environment"].items() if "_FILE" not in k}
    own = {
        "DATA_DIR": str(folder / "data"),
        "WEBUI_SECRET_KEY": secrets.token_hex(16),
        "ENABLE_OPENAI_API": "false",
    }
    with Process(
        [PROGRAM, "serve", "--host", "127.0.0.1", "--port", str(port)],
        log=folder / "open-webui.log",
        cwd=folder,
        env={**shipped, **_ALONE, **own, **settings},
    ) as process:
        url = f"http://127.0.0.1:{port}"

        def healthy() -> bool:
            assert process.running, process.tail()
            return requests.get(f"{url}/health", timeout=5).ok

        until(healthy, "Open WebUI is healthy", seconds=_START_SECONDS, every=0.5)
        yield url


class Person:
    """Uses the page with the mouse and the keyboard."""

    def __init__(self, page: Page) -> None:
        self.page = page
        page.driver.set_page_load_timeout(_PAGE_SECONDS)

    def until(self, check: Callable[[], object], what: str) -> None:
        self.page.until(check, what, _PAGE_SECONDS)

    def click(self, selector: str) -> None:
        """Click the last of these elements as soon as nothing lies in front of it."""
        self.until(lambda: self._click("css selector", selector), selector)

    def press(self, words: str) -> None:
        """Click the topmost button with these words."""
        self.until(
            lambda: self._click("xpath", f'//button[contains(., "{words}")]'), words
        )

    def _click(self, by: str, selector: str) -> bool:
        found = self.page.driver.find_elements(by, selector)
        if found:
            found[-1].click()
        return bool(found)

    def write(self, selector: str, text: str) -> None:
        self.click(selector)
        self.page.css(selector)[-1].send_keys(text)

    def reads(self, words: str, *, there: bool = True) -> None:
        """Wait until these words are on the page, or no longer."""
        script = "return document.body.innerText"
        self.until(lambda: (words in self.page.run(script)) is there, repr(words))

    def sign_up(self) -> None:
        """Become the administrator; close the news of the release."""
        self.page.open("/")
        self.until(self._welcomed, "the first page")
        self.click("[aria-label='Get started']")
        self.write("#name", "Ada")
        self.write("#email", "ada@example.org")
        self.write("#password", secrets.token_hex(8))
        self.click("button[type=submit]")
        self.press("Okay, Let's Go!")
        self.reads("Okay, Let's Go!", there=False)

    def _welcomed(self) -> bool:
        """Reload where a script failed to load, as happens on a busy machine."""
        if "Internal Error" in self.page.run("return document.body.innerText"):
            self.page.driver.refresh()
        return bool(self.page.css("[aria-label='Get started']"))

    def pick(self, model: str) -> None:
        self.click("#model-selector-model-button")
        self.click(f"[aria-label^='Select {model}']")

    def ask(self, question: str) -> None:
        self.write("#chat-input", question)
        self.click("#send-message-button")

    def numbers(self) -> list[int]:
        """Give the numbers of the last answer, as they stand on the page now."""
        text = self.page.run(
            "const all = document.querySelectorAll('.chat-assistant');"
            "return all.length ? all[all.length - 1].innerText : ''"
        )
        return [int(each) for each in re.findall(r"\d+", text)]

    def edit_connection(self) -> None:
        """Open the administrator's settings of the connection to Ollama."""
        self.page.open("/admin/settings/connections")
        self.reads("Manage Ollama API Connections")
        self.until(lambda: self.page.run(_CONFIGURE), "the connection's settings")
        self.reads("Edit Connection")


# The buttons have no names: to download a model, to configure, to switch off.
_CONFIGURE = """
const url = [...document.querySelectorAll('input[readonly]')].find((e) => e.value);
let row = url;
while (row && row.querySelectorAll('button').length < 3) row = row.parentElement;
if (row) row.querySelectorAll('button')[1].click();
return Boolean(row);
"""
