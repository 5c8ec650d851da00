"""The config-reloader has Alertmanager load what changed, and says what it cannot."""

from __future__ import annotations

import pytest

from launcher.errors import LaunchError
from launcher.reloader import Alertmanager, Reloader


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "alertmanager.yml").write_text("first")
    return tmp_path


@pytest.fixture
def posted():
    return []


@pytest.fixture
def said():
    return []


@pytest.fixture
def reloader(folder, posted, said) -> Reloader:
    alertmanager = Alertmanager("http://am", (folder,), posted.append)
    return Reloader(lambda: False, [alertmanager], said.append)


def test_alertmanager_loads_each_change_once(reloader, folder, posted) -> None:
    """At the start, since init may have changed something; then at each change."""
    reloader.look()
    reloader.look()
    assert ["http://am/-/reload"] == posted

    (folder / "alertmanager.yml").write_text("second")
    reloader.look()
    reloader.look()
    assert 2 == len(posted)


def test_a_refused_reload_is_tried_again(reloader, said) -> None:
    """What Alertmanager says is said once; the reload is not forgotten."""
    answers = iter([OSError("500: bad"), OSError("500: bad"), None])

    def post(_url: str) -> None:
        if error := next(answers):
            raise error

    reloader.alertmanagers[0].post = post
    for _ in range(4):
        reloader.look()

    assert ["not in force: 500: bad", "Alertmanager has the configuration"] == said


def test_one_alertmanager_that_is_away_keeps_no_other(reloader, folder, said) -> None:
    """Of a cluster each loads the files for itself."""
    loaded: list[str] = []

    def away(_url: str) -> None:
        raise OSError("refused")

    reloader.alertmanagers = [
        Alertmanager("http://a", (folder,), away),
        Alertmanager("http://b", (folder,), loaded.append),
    ]

    reloader.look()

    assert ["http://b/-/reload"] == loaded
    assert "not in force: refused" in said


def test_a_faulty_file_is_said_and_ends_nothing(reloader, said, posted) -> None:
    """A mistake in a file of one's own keeps what runs, and the loop goes on."""

    def broken() -> bool:
        raise LaunchError("site/router.yml: must be a mapping")

    reloader.prepare = broken
    reloader.look()
    reloader.look()

    assert ["not in force: site/router.yml: must be a mapping"] == said
    assert [] == posted


def test_a_node_that_refuses_is_said_once(reloader, said) -> None:
    """And again when it refuses after it had been well."""
    turns = iter([["n refuses"], ["n refuses"], [], ["n refuses"]])
    reloader.refusals = lambda: next(turns)

    for _ in range(4):
        reloader.look_at_nodes()

    assert ["n refuses", "n refuses"] == said
