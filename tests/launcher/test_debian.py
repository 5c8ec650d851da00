"""Debian's unpacked programs work as the installed ones do."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import requests

from launcher import files, health, tools, webconfig
from launcher.errors import LaunchError
from launcher.services import Paths, Ports, Programs, parts
from tests.harness.poll import until
from tests.harness.ports import free_port
from tests.harness.process import ROOT, Process

pytestmark = pytest.mark.e2e


@pytest.fixture
def unpacked() -> Programs:
    home = tools.bin_directory(ROOT)
    try:
        tools.ensure(ROOT, tools.RUN)
    except LaunchError as error:
        pytest.skip(str(error))
    if not (home / "prometheus").exists():
        pytest.skip("Debian's programs are not unpacked: PATH has others")
    return Programs(home / "prometheus", home / "prometheus-alertmanager")


def start(name: str, paths: Paths, programs: Programs, ports: Ports) -> Process:
    (part,) = (p for p in parts(ports, paths, programs) if p.name == name)
    process = Process(part.argv, log=paths.run / f"{name}.log")

    def well() -> bool:
        assert process.running, process.tail()
        login = webconfig.login(part.password_file) if part.password_file else None
        return health.answers(part.health, login=login)

    try:
        until(well, f"{name} is well")
    except BaseException:
        process.kill()
        raise
    return process


@pytest.mark.parametrize("page", ["classic/graph", "classic/targets"])
def test_prometheus_pages_load_all_their_scripts(paths, unpacked, page) -> None:
    """Each script and style that a page names is there."""
    paths.run.mkdir()
    paths.prometheus_yml.write_text("global: {}\n")
    ports = replace(Ports(), prometheus=free_port())
    base = f"http://127.0.0.1:{ports.prometheus}"

    with start("prometheus", paths, unpacked, ports):
        text = requests.get(f"{base}/{page}", timeout=10).text
        links = re.findall(r'(?:src|href)="(/[^"]+\.(?:js|css)[^"]*)"', text)
        status = {
            each: requests.get(base + each, timeout=10).status_code for each in links
        }

    assert len(status) > 5
    assert {200} == set(status.values()), status


def test_alertmanager_finds_its_templates(paths, unpacked) -> None:
    """The path that Debian compiled in leads to the unpacked templates."""
    paths.run.mkdir()
    paths.alertmanager_yml.write_text("route: {receiver: a}\nreceivers: [{name: a}]\n")
    files.ensure_token(paths.alertmanager_password)
    webconfig.ensure(paths.alertmanager_web, paths.alertmanager_password)
    ports = replace(Ports(), alertmanager=free_port())

    with start("alertmanager", paths, unpacked, ports) as process:
        assert process.running
