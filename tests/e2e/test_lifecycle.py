"""The router's start, reload and end, and clients that would wear it out."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import resource
import select
import shutil
import signal
import socket
import threading
import time

import psutil
import pytest

from tests.harness.poll import until
from tests.harness.ports import free_port
from tests.harness.process import ROOT
from tests.harness.router import WEBHOOK_TOKEN, Router
from tests.harness.simulator import Simulated, SimulatedFleet
from tests.harness.wire import closed, connect, post, read_answer

pytestmark = pytest.mark.e2e

MODEL = "llama3.2:3b"
MIB = 1024 * 1024
NODES = (Simulated("one", slots=4, tokens_per_second=100.0),)


def ask(tokens: int) -> dict[str, object]:
    message = {"role": "user", "content": "count on from 7"}
    options = {"num_predict": tokens}
    return {"model": MODEL, "messages": [message], "options": options}


@pytest.fixture(scope="module")
def fleet(tmp_path_factory):
    """One node with four slots, for all tests of this file."""
    with SimulatedFleet(tmp_path_factory.mktemp("fleet"), NODES) as simulated:
        yield simulated


@pytest.fixture(autouse=True)
def healthy(fleet):
    """No fault of one test is there in the next."""
    yield
    fleet.clear("one")


@pytest.fixture
def start(tmp_path, fleet):
    """Start a router with settings; it is gone after the test."""
    with contextlib.ExitStack() as stack:

        def started(**settings: str) -> Router:
            made = Router(
                tmp_path,
                fleet.inventory,
                prometheus_port=free_port(),
                settings=settings,
            )
            return stack.enter_context(made)

        yield started


@pytest.fixture
def dial():
    """Open connections to a router; all are closed after the test."""
    with contextlib.ExitStack() as stack:
        yield lambda router: stack.enter_context(connect(router.port))


@pytest.fixture
def begin(dial):
    """Start a stream and wait for its first token."""

    def begun(router, tokens: int = 400) -> socket.socket:
        client = dial(router)
        client.sendall(post("/api/chat", ask(tokens)))
        assert client.recv(1, socket.MSG_PEEK)
        return client

    return begun


def workers(router) -> list[psutil.Process]:
    return psutil.Process(router.process.pid).children()


def counted(client: socket.socket, tokens: int) -> bool:
    """Read a stream to its end: whole, every number in its place."""
    lines = [json.loads(line) for line in read_answer(client).body.splitlines()]
    text = "".join(line["message"]["content"] for line in lines)
    return lines[-1]["done"] and text.split() == [str(8 + n) for n in range(tokens)]


# The end


def test_sigterm_tells_all_who_wait(start, fleet, dial):
    """Whoever waits or comes late hears 503 and when to come again."""
    fleet.put("one", "slow", factor=1000.0)
    router = start(SHUTDOWN__GRACE_SECONDS="2")
    waiting = [dial(router) for _ in range(6)]
    paths = itertools.cycle(["/api/chat", "/v1/chat/completions"])
    for client, path in zip(waiting, paths, strict=False):
        client.sendall(post(path, ask(50)))
    queued = 'inferops_queue_length{priority="interactive"}'
    until(lambda: router.metric(queued) == 2.0, "four hold slots, two are queued")
    idle, late, probe, unread = (dial(router) for _ in range(4))
    late.sendall(post("/api/chat", ask(5))[:20])
    probe.sendall(b"GET /readyz HTTP/1.1\r\n")
    unread.sendall(post("/api/chat", ask(5))[:-3])
    until(lambda: router.get("/healthz").ok, "their bytes have been read")
    os.kill(router.process.pid, signal.SIGTERM)
    assert closed(idle)
    late.sendall(post("/api/chat", ask(5))[20:])
    probe.sendall(b"Host: localhost\r\n\r\n")
    assert read_answer(probe).json["reason"] == "the router is shutting down"
    answers = [read_answer(client) for client in (late, unread, *waiting)]
    for answer in answers:
        assert (503, "5", "close") == (
            answer.status,
            answer.headers["retry-after"],
            answer.headers["connection"],
        )
    assert answers[0].json == {"error": "the router is shutting down"}
    assert answers[3].json["error"]["message"] == "the router is shutting down"
    assert router.process.wait() == 0


def test_second_sigterm_shortens_nothing(start, begin):
    """The grace period is not cut by whoever asks twice."""
    router = start()
    client = begin(router, 200)
    for _ in range(2):
        router.process.signal(signal.SIGTERM)
    assert counted(client, 200)
    assert router.process.wait() == 0


@pytest.mark.parametrize(
    "signals",
    [[signal.SIGINT], [signal.SIGQUIT], [signal.SIGTERM, signal.SIGINT]],
    ids=["interrupt", "quit", "interrupt in the grace period"],
)
def test_haste_ends_streams_with_a_frame(start, signals, begin):
    """Ctrl-C has no grace period, and yet no stream ends silently."""
    router = start(SHUTDOWN__GRACE_SECONDS="60")
    client = begin(router, 5000)
    for number in signals:  # the whole group, as a terminal does
        router.process.signal(number)
    assert read_answer(client).body.endswith(
        b'{"error":"the router is shutting down"}\n'
    )
    router.process.wait(10)


def test_lost_master_ends_streams_with_a_frame(start, begin):
    """A worker whose gunicorn master was killed does not go on alone."""
    router = start()
    client = begin(router, 5000)
    worker = workers(router)[0]
    os.kill(router.process.pid, signal.SIGKILL)
    assert read_answer(client).body.endswith(
        b'{"error":"the router is shutting down"}\n'
    )
    worker.wait(10)


# One worker


def test_signals_for_more_workers_are_refused(start, begin):
    """HUP, USR2, TTIN and TTOU say why not; the stream and the worker stay."""
    router = start()
    client = begin(router)
    before = workers(router)
    names = ("HUP", "USR2", "TTIN", "TTOU")
    for name in names:
        os.kill(router.process.pid, getattr(signal, f"SIG{name}"))
    for name in names[:2]:
        before[0].send_signal(getattr(signal, f"SIG{name}"))
    told = [re.compile(rf"signal_refused.*signal=SIG{name}") for name in names]
    until(
        lambda: all(each.search(router.process.tail()) for each in told),
        "each refusal is in the log",
    )
    assert counted(client, 400)
    assert before == workers(router)


def test_killed_worker_is_replaced_by_one(start):
    """After kill -9 there is exactly one worker, and it is ready."""
    router = start()
    before = workers(router)
    before[0].kill()
    until(
        lambda: workers(router) and workers(router) != before,
        "there is another worker",
    )
    router.wait_ready()
    assert len(workers(router)) == 1


def test_more_workers_by_the_command_line_end_the_start(tmp_path, fleet, monkeypatch):
    """A number of workers given over the configuration's is not taken."""
    monkeypatch.setenv("GUNICORN_CMD_ARGS", "--workers 2")
    router = Router(tmp_path, fleet.inventory, prometheus_port=free_port())
    assert router.process.wait() == 2
    assert "workers must be 1, got 2" in router.process.tail()


# Reloading


def test_reload_touches_no_stream(start, fleet, tmp_path, begin):
    """All three files change under a stream; a faulty one changes nothing."""
    config, signals = tmp_path / "router.yml", tmp_path / "signals.yml"
    shutil.copy(ROOT / "router" / "signals.yml", signals)
    config.write_text("dispatch:\n  max_waiting: 3\n")
    router = start(CONFIG=str(config), SIGNALS__PATH=str(signals))
    good = {path: path.read_text() for path in (config, signals, fleet.inventory)}
    client = begin(router, 1000)

    for path, text in good.items():
        path.write_text(
            "# changed\n" + text.replace("max_waiting: 3", "max_waiting: 4")
        )
    until(lambda: all(_told(router, "config_reloaded", p) for p in good), "all reload")
    for path in good:
        path.write_text("faulty: [")
    until(
        lambda: all(_told(router, "config_rejected", p) for p in good), "all are told"
    )
    result = "inferops_config_last_reload_successful"
    for path in good:
        assert router.metric(f'{result}{{file="{path.name}"}}') == 0.0
    answer = router.post("/admin/reload", {}).json()["files"]
    assert [False] * 3 == [each["successful"] for each in answer]
    assert all(each["fault"].startswith(each["file"]) for each in answer)
    ready = router.get("/readyz")
    assert ready.ok
    rejected = {f"{path.name} is rejected, see the log" for path in good}
    assert rejected == set(ready.json()["warnings"])

    for path, text in good.items():
        path.write_text(text)
    answer = router.post("/admin/reload", {}).json()["files"]
    assert [(True, None)] * 3 == [(e["successful"], e["fault"]) for e in answer]
    assert "warnings" not in router.get("/readyz").json()
    assert counted(client, 1000)


def _told(router, event: str, path) -> bool:
    pattern = rf"event={event}\b.*file={re.escape(path.name)}\b"
    return re.search(pattern, router.process.log.read_text()) is not None


# Clients that would wear it out


class Pulse:
    """Asks for `/healthz` again and again, and keeps the longest wait."""

    def __init__(self, router) -> None:
        self.longest = 0.0
        self._router = router
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat)

    def _beat(self) -> None:
        while not self._over.is_set():
            began = time.monotonic()
            assert self._router.get("/healthz").ok
            self.longest = max(self.longest, time.monotonic() - began)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        self._thread.join()


def flood(client: socket.socket, piece: bytes, limit: float = float("inf")) -> int:
    """Send until there is an answer; return how many bytes went out."""
    sent = 0
    while sent < limit and not select.select([client], [], [], 0)[0]:
        sent += client.send(piece)
    return sent


def _send(client: socket.socket, piece: bytes, times: int) -> None:
    for _ in range(times):
        client.sendall(piece)


_TOKEN = {"Authorization": f"Bearer {WEBHOOK_TOKEN}"}


def test_slow_clients_are_told_and_let_go(start, dial):
    """Head or body, a byte at a time: 408 in time, whichever route it was for."""
    router = start(DISPATCH__BODY_TIMEOUT_SECONDS="3", WEB__HEAD_TIMEOUT_SECONDS="2")
    chat = post("/api/chat", ask(5))
    bell = post("/webhook/alertmanager", b"[1, 2, 3, 4, 5, 6]", **_TOKEN)
    head = b"POST /api/chat HTTP/1.1\r\nX-Long: " + b"x" * 1000
    clients: dict[socket.socket, tuple[str, bytes]] = {}
    for name, request, at_once in (
        ("body", chat, chat.index(b"\r\n\r\n") + 4),
        ("webhook", bell, len(bell) - 15),
        ("head", head, 1),
    ):
        client = dial(router)
        client.sendall(request[:at_once])
        clients[client] = (name, request[at_once:])
    answers = {}
    began = time.monotonic()
    with Pulse(router) as pulse:
        while clients:
            for client in select.select(list(clients), [], [], 1.0)[0]:
                name, _ = clients.pop(client)
                answers[name] = (read_answer(client), time.monotonic() - began)
                assert closed(client)
            for client, (name, rest) in clients.items():
                client.sendall(rest[:1])
                clients[client] = (name, rest[1:] or rest)
    told = {
        name: (a.status, a.headers["connection"]) for name, (a, _) in answers.items()
    }
    assert told["body"] == (408, "close")
    assert told["head"] == (408, "close")
    assert told["webhook"][0] in {400, 408}
    why = "the body came too slowly: nothing for 3 s, or under 500 bytes/s beyond them"
    assert why == answers["body"][0].json["error"]
    assert answers["body"][1] < 6
    assert answers["head"][0].json["error"] == "the head took over 2 s"
    assert answers["head"][1] < 5
    assert pulse.longest < 1


@pytest.mark.parametrize(
    "piece",
    [b"1\r\nx\r\n" * 1000, b"10000\r\n" + b"x" * 65536 + b"\r\n"],
    ids=["tiny chunks", "large chunks"],
)
def test_endless_upload_ends(start, piece, dial):
    """Chunks without end, tiny or large, are cut off and hold up nobody."""
    router = start(DISPATCH__BODY_TIMEOUT_SECONDS="3")
    client = dial(router)
    with Pulse(router) as pulse:
        client.sendall(
            b"POST /api/chat HTTP/1.1\r\nHost: localhost\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n"
        )
        flood(client, piece)
        answer = read_answer(client)
    assert answer.status in {400, 413}
    assert answer.headers["connection"] == "close"
    assert pulse.longest < 1


def test_body_of_a_gigabyte(start, dial):
    """Refused by its length alone; who sends it nevertheless is cut off."""
    router = start()
    before = workers(router)[0].memory_info().rss
    client = dial(router)
    with Pulse(router) as pulse:
        client.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Length: 1073741824\r\n\r\n"
        )
        sent = flood(client, b"x" * MIB, 1024 * MIB)
        answer = read_answer(client)
        assert (413, "close") == (answer.status, answer.headers["connection"])
        assert answer.json["error"]["type"] == "invalid_request_error"
        assert sent < 64 * MIB
        with pytest.raises(OSError, match=r"Broken pipe|reset"):
            _send(client, b"x" * MIB, 1024)
    assert workers(router)[0].memory_info().rss - before < 32 * MIB
    assert pulse.longest < 1


def test_ten_thousand_idle_connections(start, begin, dial):
    """The longest idle make room for who comes after them; streams go on."""
    wanted = 10_400
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < wanted + 600:
        pytest.skip(
            f"the hard limit of open files is {hard}, {wanted + 600} are needed"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    router = start()
    worker = workers(router)[0]
    before = worker.memory_info().rss
    with contextlib.ExitStack() as stack:
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        stream = begin(router, 1500)
        began = time.monotonic()
        clients = [dial(router) for _ in range(wanted)]
        assert router.post("/api/chat", {**ask(5), "stream": False}).json()["done"]
        assert closed(clients[0])
        seconds = time.monotonic() - began
        memory = worker.memory_info().rss - before
        print(f"\n{wanted} connections in {seconds:.1f} s, {memory / MIB:.0f} MiB more")
        assert worker.num_fds() < 10_400
        assert memory < 200 * MIB
        assert counted(stream, 1500)


def test_busy_connections_are_not_closed_for_new_ones(start, begin, dial):
    """Where no connection is idle the new one is told so."""
    router = start(WEB__MAX_CONNECTIONS="3")
    streams = [begin(router) for _ in range(3)]
    client = dial(router)
    client.sendall(post("/api/chat", ask(5)))
    answer = read_answer(client)
    assert (503, "5") == (answer.status, answer.headers["retry-after"])
    assert answer.json["error"] == "the router serves 3 connections already"
    for stream in streams:
        assert counted(stream, 400)


def test_few_open_files(tmp_path, fleet):
    """Under `ulimit -n 256` as many clients are served as the log promises."""
    router = Router(
        tmp_path,
        fleet.inventory,
        prometheus_port=free_port(),
        inside=["sh", "-c", 'ulimit -n 256; exec "$@"', "sh"],
    )
    with router, contextlib.ExitStack() as stack:
        told = re.search(r"at most (\d+) connections", router.process.log.read_text())
        assert told is not None
        promised = int(told[1])
        assert promised > 50
        clients = [stack.enter_context(connect(router.port)) for _ in range(promised)]
        request = post("/api/chat", {**ask(3), "stream": False})
        for _ in range(2):
            for client in clients[:-2]:  # one is for what else is asked meanwhile
                client.sendall(request)
            for client in clients[:-2]:
                assert read_answer(client).status == 200
        assert router.get("/readyz").status_code == 200
        assert "Too many open files" not in router.process.log.read_text()
