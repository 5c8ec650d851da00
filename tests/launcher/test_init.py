"""Compose's init gives each consumer its own secrets."""

from __future__ import annotations

import pytest

from launcher.init import prepare


@pytest.fixture
def receivers(tmp_path):
    folder = tmp_path / "receivers"
    folder.mkdir()
    (folder / ".gitignore").write_text("*")
    return folder


@pytest.fixture
def owners():
    return {}


@pytest.fixture
def volumes(tmp_path, receivers, owners):
    """The volumes after init's first run."""
    home = tmp_path / "volumes"
    prepare(home, receivers, owners.__setitem__)
    return home


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_each_consumer_has_its_own(volumes) -> None:
    """No service can read a secret that is not for it."""
    assert {
        "router": ["admin-token", "alertmanager-password", "webhook-token"],
        "alertmanager": [
            "alertmanager-password",
            "alertmanager.yml",
            "amtool.yml",
            "web.yml",
            "webhook-token",
        ],
        "prometheus": ["alertmanager-password"],
        "grafana": ["grafana-admin-password"],
        "open-webui": ["open-webui-secret-key"],
    } == {
        each.name: names(each) for each in volumes.iterdir() if each.name != "secrets"
    }


def test_files_belong_to_the_images_users(volumes, owners) -> None:
    """Only the consumer's user can read its files."""
    users = {"router": 10001, "alertmanager": 65534, "grafana": 472, "open-webui": 0}
    users |= {"prometheus": 65534}

    assert users == {path.parent.name: uid for path, uid in owners.items()}
    assert {0o400} == {path.stat().st_mode & 0o777 for path in owners}


def test_router_and_alertmanager_share_a_token(volumes) -> None:
    """The doorbell opens with one token."""
    token = (volumes / "router" / "webhook-token").read_text()

    assert token == (volumes / "alertmanager" / "webhook-token").read_text()
    assert len(token) > 40


def test_a_second_run_keeps_every_secret(volumes, receivers, owners) -> None:
    """A restart invalidates nobody's token."""
    before = (volumes / "router" / "admin-token").read_text()

    prepare(volumes, receivers, owners.__setitem__)

    assert before == (volumes / "router" / "admin-token").read_text()


def test_receivers_come_and_go(volumes, receivers, owners) -> None:
    """A receiver exists while its secret does."""
    rendered = volumes / "alertmanager" / "alertmanager.yml"
    secret = receivers / "slack-api-url"
    secret.write_text("https://hooks.example/T0")
    prepare(volumes, receivers, owners.__setitem__)
    assert "slack_configs" in rendered.read_text()

    secret.unlink()
    prepare(volumes, receivers, owners.__setitem__)

    assert "slack_configs" not in rendered.read_text()
    assert "slack-api-url" not in names(volumes / "alertmanager")


def test_the_routers_token_is_named_where_alertmanager_sees_it(volumes) -> None:
    """The path in alertmanager.yml is the volume's, not init's originals'."""
    text = (volumes / "alertmanager" / "alertmanager.yml").read_text()

    assert f"{volumes / 'alertmanager' / 'webhook-token'}" in text
