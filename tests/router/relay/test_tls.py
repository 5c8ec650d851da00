"""Nodes behind TLS, as plain sockets."""

from __future__ import annotations

import hashlib
import socket
import ssl
import threading
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme
from gevent import socket as cooperative

from router.model import Access
from router.relay.tls import wrap


@dataclass
class Node:
    """A real TLS server that echoes until told to end."""

    port: int
    folder: Path
    fingerprint: str


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    certificate = authority.issue_cert("rig.example")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    certificate.configure_cert(context)
    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=_serve, args=(listener, context), daemon=True)
    thread.start()
    der = ssl.PEM_cert_to_DER_cert(certificate.cert_chain_pems[0].bytes().decode())
    fingerprint = hashlib.sha256(der).hexdigest()
    yield Node(listener.getsockname()[1], folder, fingerprint)
    listener.close()


def _serve(listener, context):
    while True:
        try:
            plain, _ = listener.accept()
        except OSError:
            return
        threading.Thread(target=_echo, args=(plain, context), daemon=True).start()


def _echo(plain, context):
    try:
        with context.wrap_socket(plain, server_side=True) as client:
            while data := client.recv(65_536):
                if data == b"end":
                    client.sendall(b"bye")
                    return
                client.sendall(data)
    except OSError:
        plain.close()


def dial(node, access, host="rig.example"):
    plain = cooperative.create_connection(("127.0.0.1", node.port), 5)
    return wrap(plain, host, access, 5.0)


def test_bytes_pass_both_ways(node):
    """More than fits into any buffer, and in order."""
    relay = dial(node, Access(ca_file=node.folder / "ca.pem"))
    sent = bytes(range(256)) * 8_000
    received = bytearray()
    for start in range(0, len(sent), 100_000):
        relay.sendall(sent[start : start + 100_000])
        while len(received) < min(start + 100_000, len(sent)):
            received += relay.recv(65_536)
    relay.close()
    assert received == sent


def test_the_end_comes_after_the_last_bytes(node):
    """What a node said before it closed is not lost."""
    relay = dial(node, Access(ca_file=node.folder / "ca.pem"))
    relay.sendall(b"end")
    said = b""
    while data := relay.recv(100):
        said += data
    relay.close()
    assert said == b"bye"


def test_a_pinned_certificate_needs_no_authority_and_no_name(node):
    """As many make one for themselves."""
    relay = dial(node, Access(pin=node.fingerprint), host="10.0.0.9")
    relay.sendall(b"x")
    assert relay.recv(1) == b"x"
    relay.close()


@pytest.mark.parametrize(
    ("access", "host", "why"),
    [
        (Access(), "rig.example", "certificate verify failed"),
        (Access(ca_file=Path("ca.pem")), "other.example", "Hostname mismatch"),
        (Access(pin="0" * 64), "rig.example", "not the pinned one, but sha256:"),
        (Access(ca_file=Path("none.pem")), "rig.example", "none.pem: no certificates"),
    ],
    ids=["unknown authority", "other name", "other pin", "no file"],
)
def test_a_stranger_is_refused(node, access, host, why):
    """Each says what was wrong."""
    if access.ca_file:
        access = Access(ca_file=node.folder / access.ca_file)
    with pytest.raises(OSError, match=why):
        dial(node, access, host)


def test_a_peer_that_does_not_speak_tls_is_given_up():
    """A plain listener that says nothing costs no more than the time limit."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        plain = cooperative.create_connection(silent.getsockname(), 5)
        with pytest.raises(OSError, match=r"no handshake within 0\.2 s"):
            wrap(plain, "x", Access(), 0.2)
