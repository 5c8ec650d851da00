"""The simulator as a process: its streams, its faults and its end."""

from __future__ import annotations

import json
import signal
import socket
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from urllib.parse import urlsplit

import pytest
import requests
import yaml

from simulator.faults import RUNNER_DIED
from tests.harness.poll import until
from tests.harness.ports import free_port
from tests.harness.process import Process
from tests.harness.simulator import Simulated, SimulatedFleet

pytestmark = pytest.mark.e2e
MODEL = "llama3.2:3b"
NODE = "slow"
QUICK = "quick"


@pytest.fixture(scope="module")
def shared(tmp_path_factory) -> Iterator[SimulatedFleet]:
    nodes = [
        Simulated(NODE, slots=1, tokens_per_second=20),
        Simulated(QUICK, slots=4, tokens_per_second=2000, gpus=2),
    ]
    with SimulatedFleet(tmp_path_factory.mktemp("fleet"), nodes) as fleet:
        yield fleet


@pytest.fixture
def fleet(shared) -> Iterator[SimulatedFleet]:
    yield shared
    for node in (NODE, QUICK):
        shared.clear(node)
        until(partial(idle, shared, node), f"{node} is idle again")


def idle(fleet: SimulatedFleet, node: str) -> bool:
    state = fleet.state(node)
    return state["running"] == state["waiting"] == 0


def chat(fleet, node=QUICK, *, tokens=5, stream=True, timeout=10.0):
    body = {
        "model": MODEL,
        "messages": [{"role": "user", "content": "100"}],
        "options": {"num_predict": tokens},
        "stream": stream,
    }
    url = f"{fleet.url(node)}/api/chat"
    return requests.post(url, json=body, stream=True, timeout=timeout)


def openai(fleet, node=QUICK, *, tokens=5):
    body = {
        "model": MODEL,
        "messages": [{"role": "user", "content": "100"}],
        "max_tokens": tokens,
        "stream": True,
    }
    url = f"{fleet.url(node)}/v1/chat/completions"
    return requests.post(url, json=body, stream=True, timeout=10)


def said(lines: list[bytes]) -> str:
    values = [json.loads(line) for line in lines]
    return "".join(each["message"]["content"] for each in values if "message" in each)


def test_streams_one_line_for_each_token(fleet):
    """Five tokens are five lines and the last one, in count."""
    with chat(fleet) as answer:
        lines = list(answer.iter_lines())
    assert said(lines) == " 101 102 103 104 105"
    last = json.loads(lines[-1])
    assert (len(lines), last["done"], last["eval_count"]) == (6, True, 5)


def test_the_last_line_tells_the_speed_that_the_client_saw(fleet):
    """Ten tokens at 20 a second for a 7B model, 44 for this one."""
    with chat(fleet, NODE, tokens=10) as answer:
        last = json.loads(list(answer.iter_lines())[-1])
    speed = last["eval_count"] / last["eval_duration"] * 1e9
    assert speed == pytest.approx(20 * 7 / 3.2, rel=0.01)


def test_one_that_waits_gets_not_even_a_head(fleet):
    """A second request behind one slot hears nothing until the first is done."""
    with chat(fleet, NODE, tokens=10_000):
        with pytest.raises(requests.ReadTimeout):
            chat(fleet, NODE, timeout=0.3)
        assert fleet.state(NODE)["running"] == 1


def test_a_client_that_leaves_frees_the_slot(fleet):
    """The next request starts although the first asked for 10,000 tokens."""
    before = fleet.state(NODE)["inferences"]["cancelled"]
    first = chat(fleet, NODE, tokens=10_000)
    first.close()
    with chat(fleet, NODE) as answer:
        assert said(list(answer.iter_lines())).startswith(" 101")
    assert fleet.state(NODE)["inferences"]["cancelled"] == before + 1


def test_many_streams_at_once_all_count(fleet):
    """Forty clients, four slots: each gets its own whole answer."""
    with ThreadPoolExecutor(40) as pool:
        replies = pool.map(lambda _: chat(fleet, tokens=20).content, range(40))
    expected = "".join(f" {number}" for number in range(101, 121))
    assert {said(reply.splitlines()) for reply in replies} == {expected}


def gauge(fleet: SimulatedFleet, node: str, name: str) -> dict[str, float]:
    text = requests.get(f"{fleet.url(node)}/metrics", timeout=5).text
    lines = [line for line in text.splitlines() if line.startswith(f"{name}{{")]
    return {line.split('gpu="')[1][0]: float(line.split()[-1]) for line in lines}


def test_hot_shows_in_the_metrics_and_goes(fleet):
    """On the chosen GPU only."""
    fleet.put(QUICK, "hot", celsius=97, gpu=1)
    heat = gauge(fleet, QUICK, "DCGM_FI_DEV_GPU_TEMP")
    assert (heat["0"] < 70, heat["1"]) == (True, 97)
    fleet.clear(QUICK, "hot")
    assert gauge(fleet, QUICK, "DCGM_FI_DEV_GPU_TEMP")["1"] < 70


@pytest.mark.parametrize(
    ("fault", "details", "name", "value"),
    [
        ("ecc", {"count": 3}, "DCGM_FI_DEV_ECC_DBE_VOL_TOTAL", 3),
        ("xid", {"code": 79}, "DCGM_FI_DEV_XID_ERRORS", 79),
        ("xid", {"code": 48, "count": 2}, "DCGM_EXP_XID_ERRORS_COUNT", 2),
    ],
)
def test_hardware_faults_show_in_the_metrics(fleet, fault, details, name, value):
    """And are gone once cleared, as after a reboot."""
    fleet.put(NODE, fault, **details)
    assert gauge(fleet, NODE, name) == {"0": value}
    fleet.clear(NODE, fault)
    assert gauge(fleet, NODE, name) == {"0": 0}


def test_hang_accepts_and_never_answers_but_metrics(fleet):
    """The stream under way stands still, and all goes on when it is cleared."""
    with chat(fleet, NODE, tokens=20) as answer:
        lines = answer.iter_lines()
        first = next(lines)
        fleet.put(NODE, "hang")
        with pytest.raises(requests.ReadTimeout):
            requests.get(f"{fleet.url(NODE)}/api/version", timeout=0.3)
        assert gauge(fleet, NODE, "DCGM_FI_DEV_GPU_TEMP")
        fleet.clear(NODE, "hang")
        rest = list(lines)
    assert said([first, *rest]).split()[-1] == "120"


def test_hang_may_include_the_metrics(fleet):
    """So that the whole node is silent."""
    fleet.put(NODE, "hang", metrics=True)
    with pytest.raises(requests.ReadTimeout):
        requests.get(f"{fleet.url(NODE)}/metrics", timeout=0.3)


def test_slow_divides_the_speed(fleet):
    """The reply's own counters say so."""
    fleet.put(QUICK, "slow", factor=8)
    with chat(fleet, tokens=50) as answer:
        last = json.loads(list(answer.iter_lines())[-1])
    speed = last["eval_count"] / last["eval_duration"] * 1e9
    assert speed == pytest.approx(2000 * 7 / 3.2 / 8, rel=0.01)


@pytest.mark.parametrize("reset", [False, True], ids=["streams end", "streams cut"])
def test_refuse_closes_the_port_until_it_is_cleared(fleet, reset):
    """New connections are refused, pooled ones closed; streams as asked."""
    with requests.Session() as session:
        url = f"{fleet.url(NODE)}/api/version"
        assert session.get(url, timeout=5).ok
        with chat(fleet, NODE, tokens=15) as answer:
            fleet.put(NODE, "refuse", reset=reset)
            with pytest.raises(requests.ConnectionError):
                session.get(url, timeout=5)
            if reset:
                with pytest.raises(requests.exceptions.ChunkedEncodingError):
                    list(answer.iter_lines())
            else:
                assert json.loads(list(answer.iter_lines())[-1])["done"]
        fleet.clear(NODE, "refuse")
        assert session.get(url, timeout=5).ok


def test_error_answers_in_ollamas_words_so_many_times(fleet):
    """Twice, in both dialects, and then the node is well again."""
    fleet.put(QUICK, "error", times=2)
    native, other = chat(fleet), openai(fleet)
    assert (native.status_code, native.json()) == (500, {"error": RUNNER_DIED})
    assert other.json()["error"]["message"] == RUNNER_DIED
    assert chat(fleet).ok
    assert fleet.state(QUICK)["faults"] == []


def test_an_error_can_be_any(fleet):
    """Status and text as given; what lists models is not struck."""
    text = "server busy, please try again.  maximum pending requests exceeded"
    fleet.put(QUICK, "error", status=503, text=text)
    answer = chat(fleet)
    assert (answer.status_code, answer.json()) == (503, {"error": text})
    assert requests.get(f"{fleet.url(QUICK)}/api/tags", timeout=5).ok


def test_cut_without_a_trace_ends_the_body_cleanly(fleet):
    """Three tokens, then a complete body that lacks its last line."""
    fleet.put(QUICK, "cut", tokens=3, variant="clean")
    lines = list(chat(fleet).iter_lines())
    assert said(lines) == " 101 102 103"
    assert not json.loads(lines[-1])["done"]


def test_cut_on_v1_has_no_done(fleet):
    """Only the missing finish and `[DONE]` tell."""
    fleet.put(QUICK, "cut", tokens=2)
    frames = openai(fleet).text.split("\n\n")
    last = json.loads(frames[2].removeprefix("data: "))
    assert (last["model"], last["choices"][0]["finish_reason"]) == ("", None)
    assert frames[3:] == [""]


@pytest.mark.parametrize("variant", ["line", "socket"])
def test_cut_within_a_line_breaks_the_body(fleet, variant):
    """Half a line arrives, and then the connection is gone."""
    fleet.put(QUICK, "cut", tokens=3, variant=variant)
    received: list[bytes] = []
    answer = chat(fleet)
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        received.extend(answer.iter_content(1))
    *whole, half = b"".join(received).split(b"\n")
    assert said(whole) == " 101 102 103"
    assert half
    assert not half.endswith(b"}")


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
def test_cut_before_the_first_token_is_an_error(fleet, stream):
    """Nothing has been sent yet, so Ollama can still say 500."""
    fleet.put(QUICK, "cut", tokens=0)
    answer = chat(fleet, stream=stream)
    assert (answer.status_code, answer.json()) == (500, {"error": RUNNER_DIED})
    assert idle(fleet, QUICK)


def test_out_of_memory_fails_loads_and_fills_the_gpu(fleet):
    """The memory is gone in the metrics, and in the answer's words."""
    fleet.put(QUICK, "out_of_memory")
    answer = chat(fleet)
    assert answer.status_code == 500
    assert answer.json()["error"].startswith("model requires more system memory (")
    used = gauge(fleet, QUICK, "DCGM_FI_DEV_FB_USED")["0"]
    assert used / (24e9 / 2 / 1024**2) > 0.95
    fleet.clear(QUICK, "out_of_memory")
    assert chat(fleet).ok


def test_metrics_down_leaves_inference_alone(fleet):
    """503 for the scrape, answers for clients."""
    fleet.put(QUICK, "metrics_down")
    assert requests.get(f"{fleet.url(QUICK)}/metrics", timeout=5).status_code == 503
    assert chat(fleet).ok


def test_an_embedding_model_refuses_to_chat(fleet):
    """In Ollama's words; it embeds."""
    url = fleet.url(QUICK)
    body = {"model": "nomic-embed-text", "messages": [{"role": "user", "content": "x"}]}
    answer = requests.post(f"{url}/api/chat", json=body, timeout=5)
    assert answer.json() == {"error": '"nomic-embed-text" does not support chat'}
    body = {"model": "nomic-embed-text", "input": ["x", "y", "x"]}
    answer = requests.post(f"{url}/api/embed", json=body, timeout=5)
    x, y, again = answer.json()["embeddings"]
    assert (len(x), x == again, x == y) == (768, True, False)


@pytest.mark.parametrize(
    ("call", "body", "status", "text"),
    [
        ("POST /nodes/nobody/faults", "{}", 404, "node: must be one of slow, quick"),
        ("GET /nodes/nobody", "", 404, "got 'nobody'"),
        ("POST /nodes/slow/faults", "{", 400, "body: is no JSON"),
        ("POST /nodes/slow/faults", "{}", 400, "fault: must be one of hot, ecc"),
        (
            "POST /nodes/slow/faults",
            '{"fault":"hot","gpu":1}',
            400,
            "gpu: must be below 1, got 1",
        ),
        ("DELETE /nodes/slow/faults/heat", "", 400, "got 'heat'"),
        ("PUT /nodes", "", 404, "no such call: PUT '/nodes'"),
    ],
    ids=[
        "unknown node",
        "unknown node read",
        "broken JSON",
        "no fault",
        "no such GPU",
        "unknown fault",
        "unknown call",
    ],
)
def test_control_refuses_clearly(fleet, call, body, status, text):
    """Status, and a sentence that names the field and the value."""
    method, path = call.split()
    answer = requests.request(method, fleet.control + path, data=body, timeout=5)
    assert answer.status_code == status
    assert text in answer.json()["error"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "http://localhost:5173"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "same-origin"}, 403),
        ({"X-Forwarded-For": "192.168.1.7"}, 403),
        ({"Forwarded": "for=192.168.1.7"}, 403),
        ({"X-Real-IP": "192.168.1.7"}, 403),
        ({"Via": "1.1 proxy"}, 403),
        ({"Host": "evil.lan:21500"}, 403),
        ({"Host": "evil"}, 403),
        ({"Host": "192.168.1.5"}, 403),
        ({"Content-Type": "text/plain"}, 400),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 400),
    ],
    ids=str,
)
def test_control_is_for_this_machine_alone(fleet, headers, status):
    """No page, no proxy and no neighbour's name puts a fault on a node."""
    url = f"{fleet.control}/nodes/slow/faults"
    body = '{"fault":"hot"}'
    answer = requests.post(url, data=body, headers=headers, timeout=5)
    assert (status, []) == (answer.status_code, fleet.state(NODE)["faults"])


@pytest.mark.parametrize("path", ["//nodes", "/nodes/", "/nodes//slow", "/./nodes"])
def test_control_has_one_spelling(fleet, path):
    """A path that is written otherwise is none."""
    with socket.create_connection(("127.0.0.1", urlsplit(fleet.control).port)) as peer:
        peer.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        assert peer.recv(100).startswith(b"HTTP/1.1 404")


def test_state_shows_what_is_on(fleet):
    """Faults with their details, and that all is simulated."""
    state = fleet.put(NODE, "slow", factor=3)
    assert state["faults"] == [{"fault": "slow", "factor": 3.0}]
    assert (state["simulated"], state["listening"]) == (True, True)
    assert [each["name"] for each in fleet.states()] == [NODE, QUICK]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_at_once(tmp_path, number):
    """In mid-stream, with status 0 and nothing on its log but its start."""
    with SimulatedFleet(tmp_path, [Simulated("one", tokens_per_second=10)]) as fleet:
        with chat(fleet, "one", tokens=10_000):
            fleet.process.signal(number)
            assert fleet.process.wait(2) == 0
        log = fleet.process.tail()
    assert "event=simulated_node node=one" in log
    assert "Traceback" not in log


def test_a_bad_inventory_is_named(tmp_path):
    """Status 2, and one line with file, path and value."""
    path = tmp_path / "nodes.yml"
    path.write_text("- targets: []")
    argv = [sys.executable, "-m", "simulator", "--inventory", path]
    with Process(argv, log=tmp_path / "log") as process:
        assert process.wait(20) == 2
        assert process.tail().startswith(f"simulator: {path}: [0]: must have targets")


def test_a_taken_port_is_named(tmp_path):
    """Status 1, and the port."""
    port = free_port()
    labels = {"node": "a", "__ollama": f"http://h:{port}", "__simulated": "true"}
    path = tmp_path / "nodes.yml"
    path.write_text(yaml.safe_dump([{"targets": ["h"], "labels": labels}]))
    argv = [sys.executable, "-m", "simulator", "--inventory", path]
    taken = socket.create_server(("127.0.0.1", port))
    with taken, Process(argv, log=tmp_path / "log") as process:
        assert process.wait(20) == 1
        assert str(port) in process.tail()


def test_expiry_moves_by_use_only(fleet):
    """To the router an `expires_at` that moved is a reply which it did not send."""
    chat(fleet).close()
    until(lambda: idle(fleet, QUICK), "idle")
    url = f"{fleet.url(QUICK)}/api/ps"
    seen = {requests.get(url, timeout=5).text for _ in range(50)}
    assert len(seen) == 1
