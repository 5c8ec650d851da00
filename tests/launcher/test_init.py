"""Compose's init gives each consumer its own secrets."""

from __future__ import annotations

import re
import shutil

import pytest
import yaml

from launcher.configuration import Links, Sources
from launcher.errors import LaunchError
from launcher.init import Volumes, prepare, same_code
from tests.harness.process import ROOT

PARTS = ("alerting", "compose", "exporters", "grafana", "launcher", "prometheus")


@pytest.fixture
def sources(tmp_path) -> Sources:
    """A checkout of one's own, without the secrets and the site of this one."""
    checkout = tmp_path / "checkout"
    ignored = shutil.ignore_patterns("secrets", "__pycache__")
    for name in (*PARTS, "router", "simulator"):
        shutil.copytree(ROOT / name, checkout / name, ignore=ignored)
    return Sources(checkout, ROOT / "simulator" / "targets")


@pytest.fixture
def receivers(sources):
    folder = sources.site / "secrets"
    folder.mkdir(parents=True)
    (folder / ".gitignore").write_text("*")
    return folder


@pytest.fixture
def owners():
    return {}


@pytest.fixture
def run(tmp_path, sources, receivers, owners):
    """What init does, told whether it changed anything."""

    def own(path, uid) -> None:
        owners[path.parent.name] = uid

    places = Volumes(tmp_path / "configuration", tmp_path / "volumes")
    return lambda **links: prepare(sources, places, Links(**links), own)


@pytest.fixture
def volumes(tmp_path, run):
    """The secrets' volumes after init's first run."""
    assert run()
    return tmp_path / "volumes"


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_each_consumer_has_its_own(volumes) -> None:
    """No service can read a secret that is not for it."""
    assert {
        "router": [
            "admin-token",
            "alertmanager-password",
            "metrics-token",
            "webhook-token",
        ],
        "alertmanager": [
            "alertmanager-password",
            "alertmanager.yml",
            "amtool.yml",
            "web.yml",
            "webhook-token",
        ],
        "prometheus": ["alertmanager-password", "metrics-token"],
        "grafana": ["grafana-admin-password"],
        "open-webui": ["open-webui-secret-key"],
    } == {
        each.name: names(each) for each in volumes.iterdir() if each.name != "secrets"
    }


def test_files_belong_to_the_images_users(volumes, owners) -> None:
    """Only the consumer's user can read its files."""
    users = {"router": 10001, "alertmanager": 65534, "grafana": 472, "open-webui": 0}
    users |= {"prometheus": 65534}

    assert users == owners
    assert {0o400} == {
        path.stat().st_mode & 0o777
        for path in volumes.rglob("*")
        if path.is_file() and path.parent.name in users
    }


def test_router_and_alertmanager_share_a_token(volumes) -> None:
    """The webhook takes one token."""
    token = (volumes / "router" / "webhook-token").read_text()

    assert token == (volumes / "alertmanager" / "webhook-token").read_text()
    assert len(token) > 40


def test_a_second_run_keeps_every_secret(volumes, run) -> None:
    """A restart invalidates nobody's token."""
    before = (volumes / "router" / "admin-token").read_text()

    assert not run()

    assert before == (volumes / "router" / "admin-token").read_text()


def test_receivers_come_and_go(volumes, receivers, run) -> None:
    """A receiver exists while its secret does."""
    rendered = volumes / "alertmanager" / "alertmanager.yml"
    secret = receivers / "slack-api-url"
    secret.write_text("https://hooks.example/T0")
    assert run()
    assert "slack_configs" in rendered.read_text()

    secret.unlink()
    assert run()

    assert "slack_configs" not in rendered.read_text()
    assert "slack-api-url" not in names(volumes / "alertmanager")


def test_the_key_for_https_is_the_routers_alone(volumes, sources, run, owners) -> None:
    """A certificate and its key of one's own come, and go, to no other service."""
    folder = sources.site / "tls"
    folder.mkdir()
    for name in ("server.pem", "key.pem", "notes.txt"):
        (folder / name).write_text(f"{name} of mine")

    assert run()

    key = volumes / "router" / "key.pem"
    assert "key.pem of mine" == key.read_text()
    assert 0o400 == key.stat().st_mode & 0o777
    assert 10001 == owners["router"]
    assert [key] == list(volumes.rglob("key.pem"))
    assert [] == list(volumes.rglob("notes.txt"))
    for each in folder.iterdir():
        each.unlink()
    assert run()
    assert [] == list(volumes.rglob("*.pem"))


def test_the_routers_token_is_named_where_alertmanager_sees_it(volumes) -> None:
    """The path in alertmanager.yml is the volume's, not init's originals'."""
    text = (volumes / "alertmanager" / "alertmanager.yml").read_text()

    assert f"{volumes / 'alertmanager' / 'webhook-token'}" in text


def test_everybody_may_read_the_configuration(volumes, tmp_path) -> None:
    """Whatever the checkout's modes are, each service's user can read the copy."""
    found = list((tmp_path / "configuration").rglob("*"))

    assert {0o755} == {p.stat().st_mode & 0o777 for p in found if p.is_dir()}
    assert {0o644} == {p.stat().st_mode & 0o777 for p in found if p.is_file()}


def test_own_files_are_taken(volumes, sources, tmp_path, run) -> None:
    """What stands in site/ replaces, adds to or overrides what is shipped."""
    site, there = sources.site, tmp_path / "configuration"
    (site / "rules").mkdir()
    (site / "rules" / "mine.yml").write_text("groups: []\n")
    (site / "nodes.yml").write_text("[]\n")
    (site / "router.yml").write_text("dispatch: {attempts: 7}\n")

    assert run()

    router = yaml.safe_load((there / "router" / "router.yml").read_text())
    assert {"dispatch": {"attempts": 7}} == router  # defaults are not written out
    assert "[]\n" == (there / "prometheus" / "targets" / "nodes.yml").read_text()
    assert (there / "alerting" / "rules" / "site-mine.yml").is_file()
    (site / "rules" / "mine.yml").unlink()
    assert run()
    assert not (there / "alerting" / "rules" / "site-mine.yml").exists()


def test_what_is_added_to_prometheus(sources, tmp_path, run) -> None:
    """Jobs of one's own stand beside the shipped ones, remote write and labels too."""
    (sources.site / "prometheus.yml").write_text(
        "global: {external_labels: {site: lab}}\n"
        "scrape_configs: [{job_name: mine}]\nremote_write: [{url: http://m/}]\n"
    )

    assert run()

    file = tmp_path / "configuration" / "prometheus" / "prometheus.yml"
    found = yaml.safe_load(file.read_text())
    names = [each["job_name"] for each in found["scrape_configs"]]
    assert ("router", "mine") == (names[0], names[-1])
    assert {"site": "lab"} == found["global"]["external_labels"]
    assert "scrape_interval" in found["global"]
    assert [{"url": "http://m/"}] == found["remote_write"]


@pytest.mark.parametrize("text", ["- a list", "a: [", "\x00"])
def test_a_faulty_file_of_ones_own_is_named(sources, receivers, run, text) -> None:
    """The message names the file; nothing that runs is replaced by it."""
    (sources.site / "router.yml").write_text(text)

    with pytest.raises(LaunchError, match=r"site/router\.yml"):
        run()


def test_code_that_was_pulled_changes_nothing_before_it_is_built(
    volumes, sources, tmp_path, run
) -> None:
    """A checkout of other code hands out one's own files and nothing else."""
    rules, there = sources.checkout / "alerting" / "rules", tmp_path / "configuration"
    assert same_code(sources.checkout)
    (sources.checkout / "router" / "new.py").write_text("")
    (rules / "shipped.yml").write_text("groups: []\n")
    (sources.site / "nodes.yml").write_text("[]\n")

    assert run()
    assert not (there / "alerting" / "rules" / "shipped.yml").exists()
    assert "[]\n" == (there / "prometheus" / "targets" / "nodes.yml").read_text()

    (sources.checkout / "router" / "new.py").unlink()
    assert run()
    assert (there / "alerting" / "rules" / "shipped.yml").exists()


def test_runbooks_link_where_people_are(volumes, tmp_path, run) -> None:
    """No link in a runbook leads to the reader's own machine, but a node's commands."""
    run(router="http://ai.lan:8000", grafana="http://ai.lan:3000")

    pages = (tmp_path / "configuration" / "alerting" / "runbooks").glob("*.md")
    texts = [page.read_text() for page in pages]
    assert [] == [t for t in texts if re.search(r"127\.0\.0\.1:(3000|8000)", t)]
    assert [t for t in texts if "http://ai.lan:3000/d/" in t]
