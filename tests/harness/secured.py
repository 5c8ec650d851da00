"""A reverse proxy in front of a node: TLS of a made-up authority, a path, a token."""

from __future__ import annotations

import http.client
import ssl
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import urlsplit

import trustme

from tests.harness.http_thread import HttpThread, Quiet
from tests.harness.stopping import Stopping

PREFIX = "/ollama"
TOKEN = "a-token-of-the-proxy"


class Secured(Stopping):
    """Forwards to `backend` what comes under `PREFIX` with the token.

    ca:   the authority's certificate, to be trusted
    key:  the file with the token
    refused: how many requests had another token, or none
    """

    def __init__(self, backend: str, folder: Path) -> None:
        self.backend = urlsplit(backend).netloc
        self.refused = 0
        authority = trustme.CA()
        self.ca, self.key = folder / "ca.pem", folder / "token"
        authority.cert_pem.write_to_path(self.ca)
        self.key.write_text(f"{TOKEN}\n")
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert("127.0.0.1").configure_cert(context)
        self._http = _Server(_handler(self), context)
        self.url = f"https://127.0.0.1:{self._http.port}{PREFIX}"

    @property
    def labels(self) -> dict[str, str]:
        """Its labels in an inventory."""
        return {
            "__ollama": self.url,
            "__ollama_ca_file": str(self.ca),
            "__ollama_token_file": str(self.key),
        }

    def stop(self) -> None:
        self._http.stop()


class _Server(HttpThread):
    def __init__(
        self, handler: type[BaseHTTPRequestHandler], context: ssl.SSLContext
    ) -> None:
        self.context = context
        super().__init__(handler)

    def finish_request(self, request, client_address) -> None:
        with self.context.wrap_socket(request, server_side=True) as secure:
            super().finish_request(secure, client_address)


def _handler(front: Secured) -> type[BaseHTTPRequestHandler]:
    class Handler(Quiet, BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                front.refused += 1
                self.send_error(401)
            elif not self.path.startswith(f"{PREFIX}/"):
                self.send_error(404)
            else:
                self._forward(body)

        do_GET = do_POST  # noqa: N815 - as http.server names it

        def _forward(self, body: bytes) -> None:
            node = http.client.HTTPConnection(front.backend, timeout=60)
            path = self.path.removeprefix(PREFIX)
            headers = {"Content-Type": "application/json"}
            node.request(self.command, path, body, headers)
            answer = node.getresponse()
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.getheader("Content-Type", ""))
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            try:
                while piece := answer.read1(65_536):
                    self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
                self.wfile.write(b"0\r\n\r\n")
            finally:
                node.close()

    return Handler
