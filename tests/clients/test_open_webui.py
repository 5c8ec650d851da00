"""Open WebUI itself in front of the router: a person chats, and a node dies.

`make test-chat` runs these; INFEROPS_CHAT_PICTURE names a file for a picture.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.clients.open_webui import PROGRAM, Person, open_webui
from tests.harness.browser import DESKTOP, chromium
from tests.harness.counting_model import Shape
from tests.harness.inventory import write_inventory
from tests.harness.keys import OPERATOR, admin_token, make_key
from tests.harness.ollama import MODEL, RealOllama, ollama_binary, real_nodes
from tests.harness.pictures import picture
from tests.harness.ports import free_port
from tests.harness.router import Router

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.long,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(
        not PROGRAM, reason="INFEROPS_OPEN_WEBUI is not set: `make test-chat`"
    ),
    pytest.mark.skipif(ollama_binary() is None, reason="no ollama on PATH"),
]

# Slow enough: there is time to kill in mid-stream.
UNHURRIED = Shape(width=512, layers=4, feed_forward=4096)
QUESTION = "count: 101 102 103"
FIRST = 104
BEFORE_THE_KILL = 40
AFTER_THE_KILL = 100


@dataclass(frozen=True)
class Fleet:
    """Real nodes, by name, and the router in front of them."""

    nodes: Mapping[str, RealOllama]
    router: Router

    def serving(self) -> list[str]:
        """Name the nodes that have a request."""
        found = self.router.get("/admin/nodes", headers=OPERATOR).json()
        return [node["name"] for node in found if node["in_flight"]]


@contextmanager
def fleet(folder: Path, **settings: str) -> Iterator[Fleet]:
    with ExitStack() as stack:
        nodes = stack.enter_context(real_nodes(folder, models={MODEL: UNHURRIED}))
        urls = {name: node.url for name, node in nodes.items()}
        inventory = write_inventory(folder / "nodes.yml", urls, slots=None)
        router = Router(
            folder, inventory, prometheus_port=free_port(), settings=settings
        )
        yield Fleet(nodes, stack.enter_context(router))


@contextmanager
def person(folder: Path, settings: Mapping[str, str]) -> Iterator[Person]:
    """Give one who has just signed up."""
    with (
        open_webui(folder, settings) as url,
        chromium(url, DESKTOP, folder) as page,
    ):
        someone = Person(page)
        someone.sign_up()
        yield someone


def refusals(router: Router) -> list[str]:
    """Return what the log says of lists of models that were refused with 401."""
    marks = ("event=refused", "path=/api/tags", "status=401")
    return [line for line in router.log() if all(mark in line for mark in marks)]


def chat_outlives_node(fleet: Fleet, person: Person) -> None:
    """Ask; kill the node that answers; the text counts on from where it was."""
    person.pick(MODEL)
    person.ask(QUESTION)
    person.until(lambda: len(person.numbers()) >= BEFORE_THE_KILL, "the answer streams")
    (victim,) = fleet.serving()
    before = person.numbers()

    fleet.nodes[victim].kill()

    enough = len(before) + AFTER_THE_KILL
    person.until(lambda: len(person.numbers()) >= enough, "the text goes on")
    (survivor,) = fleet.serving()
    after = person.numbers()
    assert {victim, survivor} == set(fleet.nodes)
    assert before == after[: len(before)]
    assert list(range(FIRST, FIRST + len(after))) == after


def test_chat_outlives_node(tmp_path):
    """Sign up, pick the model, ask; the text goes on, and none of it is lost."""
    with (
        fleet(tmp_path) as real,
        person(tmp_path, {"OLLAMA_BASE_URL": real.router.url}) as ada,
    ):
        chat_outlives_node(real, ada)
        if path := os.environ.get("INFEROPS_CHAT_PICTURE"):
            Path(path).write_bytes(picture(ada.page))


def test_key_of_ollama_connection(tmp_path):
    """Without the key there is no model; typed into the settings, it opens all."""
    with fleet(tmp_path, **admin_token(tmp_path), ACCESS__KEYS="required") as real:
        key = make_key(real.router, "open-webui")
        with person(tmp_path, {"OLLAMA_BASE_URL": real.router.url}) as ada:
            ada.click("#model-selector-model-button")
            ada.reads("No models available")
            assert refusals(real.router)
            ada.edit_connection()
            ada.click("[aria-label='Verify Connection']")
            ada.reads("Ollama: Network Problem")
            ada.write("[placeholder='API Key']", key)
            ada.click("[aria-label='Verify Connection']")
            ada.reads("Server connection verified")
            ada.press("Save")
            ada.reads("Edit Connection", there=False)
            ada.page.open("/")
            chat_outlives_node(real, ada)


def test_key_of_openai_connection(tmp_path):
    """The same by OpenAI's API, with the key in Open WebUI's environment."""
    with fleet(tmp_path, **admin_token(tmp_path), ACCESS__KEYS="required") as real:
        settings = {
            "ENABLE_OLLAMA_API": "false",
            "ENABLE_OPENAI_API": "true",
            "OPENAI_API_BASE_URL": f"{real.router.url}/v1",
            "OPENAI_API_KEY": make_key(real.router, "open-webui"),
        }
        with person(tmp_path, settings) as ada:
            chat_outlives_node(real, ada)
