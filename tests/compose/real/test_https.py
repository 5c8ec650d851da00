"""docs/access.md's https with Docker: files in site/tls, one's own override."""

from __future__ import annotations

import json
import re
import ssl
import subprocess
from pathlib import Path

import pytest
import requests
import trustme

from tests.compose.real.stack import MODEL, Clone, Stack, steady_ports
from tests.harness.keys import bearer
from tests.harness.poll import until
from tests.harness.process import ROOT

pytestmark = [pytest.mark.e2e, pytest.mark.long, pytest.mark.timeout(600)]

PRIVATE = 0o077


def override(port: int) -> str:
    """Give the page's override, for a free port."""
    page = (ROOT / "docs" / "access.md").read_text()
    (block,) = re.findall(r"```yaml\n(services:\n.*?)```", page, re.DOTALL)
    assert "8443:8443" in block
    return str(block.replace("8443:8443", f"{port}:8443"))


def place(authority: trustme.CA, folder: Path) -> None:
    """Put a certificate and its key there, for their owner alone."""
    folder.mkdir(mode=0o700, exist_ok=True)
    pair = authority.issue_cert("127.0.0.1")
    (folder / "server.pem").write_bytes(
        b"".join(each.bytes() for each in pair.cert_chain_pems)
    )
    key = folder / "key.pem"
    key.touch(mode=0o600)
    key.write_bytes(pair.private_key_pem.bytes())


def shown(port: int) -> str:
    return ssl.get_server_certificate(("127.0.0.1", port), timeout=5)


def make_key(stack: Stack) -> str:
    """Make a key as docs/keys.md says."""
    asked = "docker compose exec router python -m router.cli keys create alice"
    assert asked in (ROOT / "docs" / "keys.md").read_text()
    done = subprocess.run(
        [*asked.replace("exec", "exec --no-TTY").split(), "--json"],
        cwd=stack.clone.folder,
        env=stack.variables,
        capture_output=True,
        text=True,
        check=True,
    )
    return str(json.loads(done.stdout)["key"])


def test_https(engine, tmp_path) -> None:
    """A private clone with a private key answers over https; a new pair is shown.

    New code takes the address for https over too.
    """
    stack = Stack(Clone(tmp_path / "clone", umask=PRIVATE))
    (port,) = steady_ports(1)
    authority = trustme.CA()
    ca = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(ca)
    try:
        stack.up()
        stack.healthy("router", "simulator")
        key = make_key(stack)
        place(authority, stack.clone.folder / "site" / "tls")
        stack.clone.write("docker-compose.override.yml", override(port))
        stack.up()
        stack.healthy("router")

        def chat(headers: dict[str, str] | None = None) -> requests.Response:
            message = {"role": "user", "content": "Hello"}
            return requests.post(
                f"https://127.0.0.1:{port}/api/chat",
                json={"model": MODEL, "messages": [message], "stream": False},
                verify=ca,
                timeout=30,
                headers=headers,
            )

        until(lambda: chat(bearer(key)).ok, "it answers", seconds=60)
        assert requests.codes.unauthorized == chat().status_code
        before = shown(port)
        place(authority, stack.clone.folder / "site" / "tls")
        until(lambda: shown(port) != before, "the new pair is shown", seconds=30)
        assert chat(bearer(key)).ok

        router = stack.ids()["router"]
        stack.clone.change_code()
        stack.up()
        until(
            lambda: "predecessor_ended" in stack.compose("logs", "router").stdout,
            "new code has taken over",
            seconds=90,
        )
        assert router == stack.ids()["router"]
        until(lambda: chat(bearer(key)).ok, "it answers over https", seconds=60)
    finally:
        stack.remove()
