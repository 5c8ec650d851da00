"""The Tailscale sidecar without a key, with one, and after the first login.

Simulated: Tailscale's image is a stand-in whose containerboot says what it was given.
"""

from __future__ import annotations

import subprocess

import pytest

from tests.compose.real.stack import Stack, image_of
from tests.harness.poll import until

pytestmark = [pytest.mark.e2e, pytest.mark.long, pytest.mark.timeout(600)]

STAND_IN = r"""
FROM {base}
USER root
RUN mkdir -p /usr/local/bin && printf '%s\n' '#!/bin/sh' \
    'echo "containerboot with <$TS_AUTHKEY>"' \
    'echo login >$TS_STATE_DIR/tailscaled.state' \
    'trap "exit 0" TERM; sleep 600 & wait' \
    >/usr/local/bin/containerboot && chmod 755 /usr/local/bin/containerboot
"""


@pytest.fixture
def tailnet(stack) -> Stack:
    stack.environment["COMPOSE_PROFILES"] = "demo,tailscale"
    subprocess.run(
        ["docker", "build", "-q", "-t", image_of(stack, "tailscale"), "-"],
        input=STAND_IN.format(base=image_of(stack, "node-exporter")),
        text=True,
        check=True,
    )
    return stack


def said(stack: Stack) -> str:
    return stack.compose("logs", "--no-log-prefix", "tailscale").stdout


def restarts(stack: Stack) -> tuple[str, int]:
    asked = subprocess.run(
        [
            *("docker", "inspect", stack.ids()["tailscale"]),
            *("--format", "{{.State.Status}} {{.RestartCount}}"),
        ],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    return asked[0], int(asked[1])


def test_without_a_key(tailnet) -> None:
    """It says what it wants and is unhealthy, and is not started again and again.

    With a key it logs in, and needs none afterwards.
    """
    tailnet.up()
    until(
        lambda: tailnet.states()["tailscale"] == "unhealthy",
        "it is unhealthy",
        seconds=200,
        every=2,
    )
    assert "TS_AUTHKEY is not set" in said(tailnet)
    assert "containerboot" not in said(tailnet)
    assert ("running", 0) == restarts(tailnet)

    tailnet.environment["TS_AUTHKEY"] = "tskey-auth-proof"
    tailnet.up("tailscale")
    until(lambda: "with <tskey-auth-proof>" in said(tailnet), "it logs in")

    tailnet.environment["TS_AUTHKEY"] = ""
    tailnet.up("tailscale")
    until(lambda: "containerboot with <>" in said(tailnet), "it is logged in")
