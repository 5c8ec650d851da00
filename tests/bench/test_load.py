"""The load generator counts what it was sent, however it was cut."""

from __future__ import annotations

import asyncio
import json

import pytest

from bench.load import Client, Tally, Target, streams
from bench.simulated_fleet import _Connection as Node
from tests.harness.ports import free_port

LINE = b'{"message":{"content":" token"},"done":false}\n'
LAST = b'{"message":{"content":""},"done":true}\n'
HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunked(*lines):
    return b"".join(b"%x\r\n%b\r\n" % (len(each), each) for each in lines)


class Wire(asyncio.Transport):
    """Takes what is sent and answers nothing."""

    def write(self, data):
        pass

    def is_closing(self):
        return False


async def feed(pieces, tokens):
    """Hand pieces of a reply to a client, as a connection would."""
    tally = Tally(open=True)
    client = Client(Target(1, "/api/chat"), tokens, tally)
    client.connection_made(Wire())
    reply = client.send()
    for piece in pieces:
        client.data_received(piece)
    await asyncio.gather(reply, return_exceptions=True)
    return tally


@pytest.mark.parametrize("size", [1, 3, 50, 10_000], ids="pieces of {} bytes".format)
def test_counts_tokens_across_cuts(size):
    """A token that two reads share counts once."""
    text = HEAD + chunked(LINE, LINE, LINE) + chunked(LAST) + b"0\r\n\r\n"
    first, rest = text[:60], text[60:]
    pieces = [first, *(rest[at : at + size] for at in range(0, len(rest), size))]

    tally = asyncio.run(feed(pieces, 3))

    assert tally.tokens == 3


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        pytest.param(b"HTTP/1.1 503 Busy\r\n\r\n", "answered b'HTTP/1.1 503", id="503"),
        pytest.param(
            HEAD + chunked(LINE, LAST) + b"0\r\n\r\n", "1 tokens, wanted 2", id="short"
        ),
        pytest.param(
            HEAD + chunked(LINE, LINE) + b"0\r\n\r\n", "2 tokens", id="no last line"
        ),
    ],
)
def test_faulty_replies_are_faults(text, fault):
    """What is no whole reply is told, and not counted as one."""
    tally = asyncio.run(feed([text], 2))

    assert tally.replies == 0
    assert tally.faults[0].startswith(fault)


def test_both_dialects_are_asked_for():
    """OpenAI's limit has another name, and its stream another end."""
    ollama, openai = Target.parse("1/api/chat"), Target.parse("2/v1/chat/completions")

    body = json.loads(openai.request(7).partition(b"\r\n\r\n")[2])
    assert (body["max_tokens"], openai.done) == (7, b"[DONE]")
    body = json.loads(ollama.request(7).partition(b"\r\n\r\n")[2])
    assert (body["options"], ollama.done) == ({"num_predict": 7}, b'"done":true')


def test_streams_over_the_simulated_fleet(capsys):
    """Gaps and tokens of the window are there, and no reply is cut off."""

    async def run():
        port = free_port()
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: Node(5000), "127.0.0.1", port)
        result = await streams([Target(port, "/api/chat")], 3, 0.3)
        server.close()
        await server.wait_closed()
        await asyncio.sleep(0)  # the connections' own goodbye
        return result

    result = asyncio.run(run())

    assert result["faults"] == 0
    assert result["tokens"] > 300
    assert 0 < result["gap_ms"]["p99"] <= result["gap_ms"]["largest"]
    assert capsys.readouterr().out == "begin\nend\n"
