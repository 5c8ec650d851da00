"""The level pass against a real Prometheus: an absent alert is not recovery."""

from __future__ import annotations

import http.server
import json
import os
import shutil
import signal
import threading
import time
from pathlib import Path

import pytest

from alerting.payload import Alert, Status
from router.alerts.labels import fingerprint
from router.alerts.notify import NotificationHandler, NotificationOutcome
from router.clients.prometheus import PrometheusClient
from router.clients.session import Service
from router.config.settings import ControlSettings
from router.control.loop import Pass, Sources
from router.holds.journal import SqliteHolds
from router.holds.store import HoldStore
from router.model import Degrade, HoldState, Inventory, Node, Signal
from router.snapshot import Published, Snapshot
from tests.harness.cases import one_each_time
from tests.harness.poll import until
from tests.harness.ports import free_ports
from tests.harness.process import Process

pytestmark = pytest.mark.e2e

HEAT = Signal("heat", "node:gpu_temperature:max_celsius", 1, 90, 40)
INVENTORY = Inventory((Node("rig", "http://rig:1"), Node("b", "http://b:1")))
# What Alertmanager would say; with the label that Prometheus adds to outside.
LABELS = {
    "alertname": "GpuTooHot",
    "node": "rig",
    "uuid": "GPU-1",
    "action": "drain",
    "cluster": "home",
}

CONFIG = """
global:
  scrape_interval: 1s
  external_labels: {{cluster: home}}
rule_files: [{folder}/rules.yml]
scrape_configs:
  - job_name: exporter
    file_sd_configs: [{{files: [{folder}/nodes.json], refresh_interval: 1s}}]
    relabel_configs: [{{target_label: instance, replacement: x}}]
"""
RULES = """
groups:
  - name: inferops-health
    interval: 1s
    rules:
      - record: node_gpu:temperature:celsius
        expr: max by (node, uuid) (gpu_temperature)
      - record: node:gpu_temperature:max_celsius
        expr: max by (node) (node_gpu:temperature:celsius)
      - alert: Watchdog
        expr: vector(1)
      - alert: GpuTooHot
        expr: EXPRESSION
        labels: {action: drain}
        annotations: {evidence: "node_gpu:temperature:celsius"}
"""
FINE = "node_gpu:temperature:celsius > 90"
# Loads, and fails at each evaluation: both sides have many.
BROKEN = "node_gpu:temperature:celsius > on () (vector(1) or up)"


def binaries():
    """Every Prometheus on PATH, so that two versions are two runs."""
    folders = os.environ.get("PATH", "").split(os.pathsep)
    found = (shutil.which("prometheus", path=folder) for folder in folders)
    return sorted({os.path.realpath(each) for each in found if each})


@pytest.fixture(
    # One version each time; the others in `make test-long`.
    params=one_each_time(binaries()),
    ids=lambda path: path and Path(path).parent.parent.name + "/" + Path(path).name,
)
def binary(request):
    if request.param is None:
        pytest.skip("prometheus is not on PATH")
    return request.param


class Exporter:
    """One card whose temperature the test sets; may be stopped and started."""

    def __init__(self, port):
        self.port = port
        self.celsius = 50
        self.peer = None
        self.start()

    def start(self):
        exporter = self

        class Metrics(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.end_headers()
                text = f'gpu_temperature{{uuid="GPU-1"}} {exporter.celsius}\n'
                self.wfile.write(text.encode())

            def log_message(self, *_):
                pass

        self.peer = http.server.ThreadingHTTPServer(("127.0.0.1", self.port), Metrics)
        self.thread = threading.Thread(target=self.peer.serve_forever, args=(0.05,))
        self.thread.start()

    def stop(self):
        if self.peer is not None:
            self.peer.shutdown()
            self.thread.join()
            self.peer.server_close()
            self.peer = None


class NoStats:
    def passed(self, seconds):
        pass

    def failed(self, stage):
        pass


class Scene:
    """Prometheus, an exporter, and the control side without its timers."""

    def __init__(self, binary, folder):
        self.folder = folder
        port, exporter_port = free_ports(2)
        self.url = f"http://127.0.0.1:{port}"
        (folder / "prometheus.yml").write_text(CONFIG.format(folder=folder))
        self.rules(FINE)
        self.exporter = Exporter(exporter_port)
        self.nodes([f"127.0.0.1:{exporter_port}"])
        self.prometheus = Process(
            [
                binary,
                f"--config.file={folder}/prometheus.yml",
                f"--storage.tsdb.path={folder}/data",
                f"--web.listen-address=127.0.0.1:{port}",
                "--query.lookback-delta=10s",
            ],
            log=folder / "prometheus.log",
        )
        self.client = PrometheusClient(Service(self.url, 2))
        self.published = Published(Snapshot({}, 0.0))
        self.restart_router()

    def restart_router(self):
        """Begin anew with what is on disk, as after a kill."""
        self.journal = SqliteHolds(self.folder / "holds.db")
        self.holds = HoldStore(self.journal)
        settings = ControlSettings()
        sources = Sources(
            settings=lambda: settings,
            inventory=lambda: INVENTORY,
            signals=lambda: (HEAT,),
            models=dict,
            prometheus=self.client,
        )
        self.make_pass = Pass(sources, self.holds, self.published, NoStats())
        self.notifications = NotificationHandler(
            self.holds, INVENTORY.names, lambda: None, lambda: 60.0, self.client.firing
        )

    def rules(self, expression):
        (self.folder / "rules.yml").write_text(RULES.replace("EXPRESSION", expression))

    def reload(self, expression):
        self.rules(expression)
        self.prometheus.signal(signal.SIGHUP)

    def nodes(self, targets):
        content = [{"targets": targets, "labels": {"node": "rig"}}] if targets else []
        written = self.folder / "nodes.tmp"
        written.write_text(json.dumps(content))
        written.rename(self.folder / "nodes.json")

    def state(self):
        """Make a pass, and give the state of the node's only hold."""
        self.make_pass()
        found = self.holds.blocking("rig")
        assert len(found) <= 1
        return found[0].state if found else None

    def reaches(self, state, what):
        began = time.monotonic()
        until(lambda: self.state() is state, what, seconds=40, every=0.2)
        print(f"{what}: {time.monotonic() - began:.1f} s")

    def stays(self, state, seconds=3.0):
        """Hold on for a few evaluations, pass after pass."""
        end = time.monotonic() + seconds

        def over():
            assert self.state() is state
            return time.monotonic() > end

        until(over, "time to pass", every=0.2)

    def close(self):
        self.exporter.stop()
        self.prometheus.stop()
        self.client.close()
        self.journal.close()


@pytest.fixture
def scene(binary, tmp_path):
    scene = Scene(binary, tmp_path)
    yield scene
    scene.close()


def answers(scene):
    scene.make_pass()
    return not scene.make_pass.status.failed


def fresh(scene):
    return answers(scene) and scene.published.current.degrade is Degrade.FRESH


@pytest.fixture
def drained(scene):
    """A hot node whose alert the level has confirmed."""
    until(lambda: fresh(scene), "readings", seconds=40, every=0.2)
    assert scene.state() is None
    scene.exporter.celsius = 95
    until(scene.client.firing, "Prometheus shows the alert")
    alert = Alert(
        status=Status.FIRING,
        labels=LABELS,
        starts_at="t1",
        fingerprint=fingerprint(LABELS),
    )
    assert scene.notifications.hear([alert]) == (NotificationOutcome.PLACED,)
    (hold,) = scene.holds.blocking("rig")
    assert hold.state is HoldState.PROVISIONAL
    scene.reaches(HoldState.CONFIRMED, "fault to confirmed hold")
    return scene


def test_a_node_that_cools_comes_back(drained):
    """Proof over two evaluations, and nothing sooner."""
    drained.exporter.celsius = 50
    drained.reaches(None, "cool to lifted hold")
    (lifted,) = drained.holds.history()[-1:]
    assert (lifted.by, lifted.why) == ("level", "the level proves the node well")
    drained.stays(None)


def test_a_forged_ring_holds_nothing(scene):
    """The bell rings, and Prometheus shows no such alert."""
    until(lambda: fresh(scene), "readings", seconds=40, every=0.2)
    alert = Alert(status=Status.FIRING, labels=LABELS, starts_at="t1", fingerprint="f")
    assert scene.notifications.hear([alert]) == (NotificationOutcome.NOT_SHOWN,)
    assert scene.holds.history() == ()


@pytest.mark.long
def test_while_the_exporter_is_gone_the_node_stays_out(drained):
    """Its scrape fails, the alert vanishes, the card is as hot as before."""
    drained.exporter.stop()
    drained.reaches(HoldState.UNKNOWN, "exporter gone to unknown")
    drained.stays(HoldState.UNKNOWN)
    drained.restart_router()
    drained.stays(HoldState.UNKNOWN)
    drained.exporter.start()
    drained.reaches(HoldState.CONFIRMED, "exporter back to confirmed")


@pytest.mark.long
def test_while_the_inventory_is_empty_the_node_stays_out(drained):
    """Prometheus takes an emptied file; nothing is scraped any more."""
    targets = [f"127.0.0.1:{drained.exporter.port}"]
    drained.nodes([])
    drained.reaches(HoldState.UNKNOWN, "nodes gone to unknown")
    drained.stays(HoldState.UNKNOWN)
    drained.restart_router()
    drained.stays(HoldState.UNKNOWN)
    drained.nodes(targets)
    drained.reaches(HoldState.CONFIRMED, "nodes back to confirmed")


@pytest.mark.long
def test_while_the_rule_is_broken_the_node_stays_out(drained):
    """Each evaluation fails; the alert is gone after the lookback."""
    drained.reload(BROKEN)
    drained.reaches(HoldState.UNKNOWN, "broken rule to unknown")
    drained.stays(HoldState.UNKNOWN, 12)  # the lookback is 10 s
    drained.restart_router()
    drained.stays(HoldState.UNKNOWN)
    drained.exporter.celsius = 50
    drained.reload(FINE)
    drained.reaches(None, "rule mended to lifted hold")


@pytest.mark.long
def test_while_prometheus_restarts_the_node_stays_out(drained):
    """Killed, away, and back: silence and an empty start prove nothing."""
    drained.prometheus.kill()
    drained.reaches(HoldState.UNKNOWN, "prometheus gone to unknown")
    drained.restart_router()
    drained.stays(HoldState.UNKNOWN)
    drained.exporter.stop()
    drained.prometheus.start()
    until(lambda: answers(drained), "prometheus", every=0.2)
    end = time.monotonic() + 13  # beyond the lookback over what was scraped before

    def over():
        assert drained.state() in {HoldState.UNKNOWN, HoldState.CONFIRMED}
        return time.monotonic() > end

    until(over, "the lookback", every=0.2)
    drained.stays(HoldState.UNKNOWN)
    drained.exporter.celsius = 50
    drained.exporter.start()
    drained.reaches(None, "proof to lifted hold")
