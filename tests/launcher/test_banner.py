"""What is printed can be used as it is printed."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from typing import Any

from launcher import banner
from launcher.services import Paths, Ports

BASE = "http://127.0.0.1:8000"


def test_the_example_survives_a_shell() -> None:
    """The body is JSON even for a model with quotes in its name."""
    command = shlex.split(banner.example(BASE, "it's:1b"))

    assert "it's:1b" == json.loads(command[-1])["model"]


def test_without_a_model_there_is_still_an_example() -> None:
    """A fleet without models can be asked for its models."""
    assert "curl -s http://127.0.0.1:8000/api/tags" == banner.example(BASE, None)


def test_the_first_model_is_waited_for() -> None:
    """The router may list no model yet when it is ready."""
    replies: Iterator[Any] = iter([None, {"models": []}, {"models": [{"name": "a:1"}]}])

    assert "a:1" == banner.first_model(BASE, read=lambda url: next(replies))


def test_no_model_in_time() -> None:
    """An empty fleet does not hold the start up."""
    assert banner.first_model(BASE, read=lambda url: None, seconds=0) is None


def test_alertmanager_has_no_page_to_offer() -> None:
    """Debian's has none; Grafana is explained where it is missing."""
    text = banner.addresses(Ports(grafana=3999), grafana=False)

    assert "http://127.0.0.1:9093 (API only)" in text
    assert "3999" not in text
    assert "not installed" in text


def test_boards_have_an_address_without_grafana() -> None:
    """The router draws them."""
    text = banner.addresses(Ports(router=8123), grafana=False)

    assert "http://127.0.0.1:8123/boards" in text


def test_secrets_are_named_not_shown(paths: Paths) -> None:
    """The terminal shows where secrets are, never what they are."""
    paths.secrets.mkdir(parents=True)
    paths.webhook_token.write_text("hush")

    text = banner.files(paths)

    assert str(paths.secrets) in text
    assert "hush" not in text
