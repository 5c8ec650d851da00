"""Prometheus and Alertmanager behind a path, TLS of one's own and a login."""

from __future__ import annotations

import time
from dataclasses import replace

import bcrypt
import pytest
import requests
import trustme
import yaml

from router.clients.alertmanager import SilenceError, Silences
from router.clients.prometheus import PrometheusClient
from router.clients.session import Service, open_session
from router.errors import PrometheusError
from router.model import Access
from tests.harness.poll import until
from tests.harness.ports import free_port
from tests.harness.process import Process
from tests.harness.stack import programs
from tests.router.control.fakes import cordon

pytestmark = pytest.mark.e2e

USER, PASSWORD = "ann", "correct horse"
PATHS = {"prometheus": "/prometheus", "alertmanager": "/alerts"}


class NoTally:
    def silenced(self, operation, *, done):
        pass


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("secured")
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    certificate.private_key_pem.write_to_path(folder / "key.pem")
    certificate.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    hashed = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
    web = {
        "tls_server_config": {"cert_file": "cert.pem", "key_file": "key.pem"},
        "basic_auth_users": {USER: hashed},
    }
    (folder / "web.yml").write_text(yaml.safe_dump(web))
    (folder / "password").write_text(f"{PASSWORD}\n")
    (folder / "wrong").write_text("battery staple\n")
    (folder / "prometheus.yml").write_text("{}\n")
    receivers = {"route": {"receiver": "none"}, "receivers": [{"name": "none"}]}
    (folder / "alertmanager.yml").write_text(yaml.safe_dump(receivers))
    return folder


@pytest.fixture(scope="module", params=PATHS)
def service(request, folder):
    """Start the real program; the service as the router's settings name it."""
    name = request.param
    binary = getattr(programs(), name)
    storage = "storage.tsdb.path" if name == "prometheus" else "storage.path"
    own = [] if name == "prometheus" else ["--cluster.listen-address="]
    address = f"127.0.0.1:{free_port()}"
    url = f"https://{address}{PATHS[name]}"
    access = Access(USER, folder / "password", ca_file=folder / "ca.pem")
    service = Service(url, 5.0, access)
    command = [
        binary,
        f"--config.file={folder}/{name}.yml",
        f"--{storage}={folder}/{name}",
        f"--web.listen-address={address}",
        f"--web.external-url={url}/",
        f"--web.config.file={folder}/web.yml",
        *own,
    ]
    with Process(command, log=folder / f"{name}.log"), open_session(service) as session:
        until(lambda: session.get(f"{url}/-/ready").ok, f"{name} is ready")
        yield name, service


def use(name, service):
    """Do what the router does there."""
    if name == "prometheus":
        client = PrometheusClient(service)
        try:
            return client.now(), client.rules()
        finally:
            client.close()
    silences = Silences(service, NoTally())
    silence = silences.post(cordon(since=time.time()))
    silences.lift(silence.id)
    return silence


def test_they_are_used_with_path_login_and_certificate(service):
    """Both real programs, with a certificate of a private authority."""
    assert use(*service)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"password_file": "wrong"}, "401"),
        ({"password_file": "none"}, "No such file.*none"),
        ({"ca_file": None}, "CERTIFICATE_VERIFY_FAILED|certificate verify failed"),
    ],
    ids=["wrong password", "no file", "unknown authority"],
)
def test_what_is_wrong_is_said(service, folder, change, why):
    """The message says which of them it is, and shows no secret."""
    name, right = service
    files = {key: value and folder / value for key, value in change.items()}
    wrong = replace(right, access=replace(right.access, **files))
    with pytest.raises((PrometheusError, SilenceError), match=why) as raised:
        use(name, wrong)
    assert PASSWORD not in str(raised.value)


def test_a_rotated_password_needs_no_restart(service, folder):
    """The file is read at each use."""
    name, right = service
    file = folder / f"rotated-{name}"
    file.write_text("the old one")
    access = replace(right.access, password_file=file)
    with open_session(replace(right, access=access)) as session:
        refused = session.get(f"{right.url}/-/ready")
        file.write_text(PASSWORD)
        taken = session.get(f"{right.url}/-/ready")
    assert (refused.status_code, taken.status_code) == (401, 200)


def test_a_token_is_sent_as_a_bearer(folder):
    """For who has a proxy with tokens in front."""
    (folder / "token").write_text("s3cret\n")
    service = Service("http://x", 1.0, Access(token_file=folder / "token"))
    with open_session(service) as session:
        prepared = session.prepare_request(requests.Request("GET", "http://x/"))
    assert prepared.headers["Authorization"] == "Bearer s3cret"
