"""The pictures of docs/walkthroughs.md: three faults, made one after the other."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
import requests

from tests.harness import board_page, pictures
from tests.harness.browser import Page, chromium
from tests.harness.crowd import Crowd
from tests.harness.demo import MODELS, Demo, demo
from tests.harness.poll import until
from tests.harness.process import ROOT

PICTURES = os.environ.get("INFEROPS_WALKTHROUGH_PICTURES")
pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not PICTURES, reason="`make previews` takes them"),
]
UIDS = {
    "overview": "inferops-fleet",
    "node": "inferops-node",
    "gpu": "inferops-gpu",
    "models": "inferops-ollama",
    "routing": "inferops-router",
}


class Camera:
    """Takes sections of boards, from the scene's begin on."""

    def __init__(self, page: Page, folder: Path) -> None:
        self.page = page
        self.folder = folder
        self.since = 0.0

    def take(self, name: str, board: str, sections: list[str], query: str = "") -> None:
        board_page.open_board(self.page, UIDS[board], self.since, query)
        assert board_page.faults(self.page) == []
        clip = board_page.sections(self.page, sections)
        (self.folder / f"{name}.png").write_bytes(pictures.picture(self.page, clip))


def test_pictures(tmp_path):
    """A person looks at each."""
    folder = ROOT / str(PICTURES)
    folder.mkdir(parents=True, exist_ok=True)
    with demo(tmp_path) as made, chromium(made.product.url, (1280, 900), tmp_path) as p:
        camera = Camera(p, folder)
        for scene in (hot_gpu, slow_model, full_queue):
            calm_down(made)
            camera.since = time.time()
            scene(made, camera)


def calm_down(made: Demo) -> None:
    """Wait until every node takes work again."""
    for node in ("one", "two", "three"):
        made.fleet.clear(node)
    until(
        lambda: all(n["schedulable"] for n in made.product.nodes().values()),
        "all nodes serve",
        seconds=120,
    )


def crowd_of(made: Demo, clients: int) -> Crowd:
    return Crowd(made.product.url, MODELS, tokens=40, clients=clients)


def served(crowd: Crowd, count: int) -> None:
    until(lambda: len(crowd.answers) >= count, f"{count} are served", seconds=90)


def hot_gpu(made: Demo, camera: Camera) -> None:
    def held() -> bool:
        return any(kind == "drain" for kind, _ in made.product.holds("two"))

    with crowd_of(made, 3) as crowd:
        served(crowd, 12)
        made.fleet.put("two", "hot")
        until(held, "two is drained", seconds=60)
        served(crowd, len(crowd.answers) + 12)
        time.sleep(5)  # lines need a while to be seen
        camera.take(
            "hot-gpu-1", "overview", ["Is inference fine", "Who is out, and why"]
        )
        made.fleet.clear("two")
        until(lambda: not held(), "two is back", seconds=120)
        served(crowd, len(crowd.answers) + 12)
        two = "&var-node=two"
        camera.take("hot-gpu-2", "gpu", ["Heat, power and memory"], two)
        camera.take("hot-gpu-3", "node", ["State"], two)


def slow_model(made: Demo, camera: Camera) -> None:
    with crowd_of(made, 3) as crowd:
        served(crowd, 20)
        made.fleet.put("one", "slow", factor=8.0)
        served(crowd, len(crowd.answers) + 12)
        time.sleep(5)
        camera.take("slow-model-1", "models", ["First token", "Pace"])
        camera.take("slow-model-2", "node", ["Work"], "&var-node=one&var-node=three")


def full_queue(made: Demo, camera: Camera) -> None:
    with crowd_of(made, 4) as crowd:
        served(crowd, 12)
        body = {"by": "demo", "reason": "a new fan"}
        assert made.product.admin("POST", "nodes/one/cordon", body).ok
        with crowd_of(made, 20) as many:
            served(many, 30)
            time.sleep(5)
            camera.take("full-queue-1", "overview", ["Is inference fine"])
            camera.take("full-queue-2", "routing", ["Balance", "Where time goes"])
            assert requests.get(f"{made.product.url}/readyz", timeout=10).ok
