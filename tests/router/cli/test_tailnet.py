"""A tailnet's machines, by a document as Tailscale writes it."""

from __future__ import annotations

import http.server
import json
import socketserver
import threading
from pathlib import Path

import pytest

from router.cli import tailnet
from router.cli.tailnet import TailnetPeer

TAG = "tag:inferops-node"


def machine(dns, addresses, *, online=True, tags=(TAG,), host="gpu"):
    return {
        "ID": dns,
        "HostName": host,
        "DNSName": dns,
        "OS": "linux",
        "TailscaleIPs": addresses,
        "Tags": list(tags),
        "Online": online,
        "LastSeen": "2026-11-30T05:00:00Z",
    }


def document(*others, own=None):
    return {
        "BackendState": "Running",
        "Self": own or machine("control.tail1.ts.net.", ["100.64.0.1"], tags=()),
        "MagicDNSSuffix": "tail1.ts.net",
        "Peer": {f"nodekey:{n}": each for n, each in enumerate(others)},
    }


def test_names_are_those_of_dns():
    """Two machines may have one host name; their DNS names differ and stay."""
    found = document(
        machine("gpu-1.tail1.ts.net.", ["fd7a::2", "100.64.0.3"]),
        machine("gpu.tail1.ts.net.", ["100.64.0.2"], online=False),
    )
    assert tailnet.peers(found, TAG) == (
        TailnetPeer("gpu", "100.64.0.2", online=False),
        TailnetPeer("gpu-1", "100.64.0.3", online=True),
    )


def test_the_router_s_own_machine_may_be_a_node():
    """Where it has the tag."""
    found = document(own=machine("control.tail1.ts.net.", ["100.64.0.1"]))
    assert tailnet.peers(found, TAG) == (
        TailnetPeer("control", "100.64.0.1", online=True),
    )


@pytest.mark.parametrize(
    "found",
    [
        {},
        {"Self": None, "Peer": None},
        document(machine("a.ts.net.", ["100.64.0.2"], tags=("tag:other",))),
        document({"DNSName": "a.ts.net.", "TailscaleIPs": ["100.64.0.2"]}),
        document(machine("", ["100.64.0.2"])),
        document(machine("a.ts.net.", ["fd7a::2"])),
        document(machine("a.ts.net.", None)),
    ],
    ids=["empty", "no peers", "tag", "no tags", "no name", "IPv6", "no address"],
)
def test_others_are_left_out(found):
    """No tag, no name, no IPv4 address: no node."""
    assert tailnet.peers(found, TAG) == ()


class _Api(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    path: Path
    answer: tuple[int, bytes]


@pytest.fixture
def local_api(tmp_path):
    """Tailscale's local API on a socket; answers what it is given."""

    class Answers(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            assert isinstance(self.server, _Api)
            status, body = self.server.answer
            known = self.path == "/localapi/v0/status"
            self.send_response(status if known else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def address_string(self):
            return "local"

        def log_message(self, *_):
            pass

    with _Api(str(tmp_path / "s.sock"), Answers) as server:
        server.path = tmp_path / "s.sock"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_the_local_api_is_asked(local_api):
    """Over its Unix socket, without Tailscale's command line."""
    found = document(machine("gpu.tail1.ts.net.", ["100.64.0.2"]))
    local_api.answer = 200, json.dumps(found).encode()
    assert tailnet.status(local_api.path) == found


@pytest.mark.parametrize(
    "answer", [(403, b"access denied"), (200, b"no JSON"), (200, b"[]")]
)
def test_an_answer_that_is_none(local_api, answer):
    """Each is told, and no inventory is made of it."""
    local_api.answer = answer
    with pytest.raises(ValueError):
        tailnet.status(local_api.path)


def test_no_tailscale_here(tmp_path):
    """An OSError, as for any file that is not there."""
    with pytest.raises(FileNotFoundError):
        tailnet.status(tmp_path / "none.sock")
