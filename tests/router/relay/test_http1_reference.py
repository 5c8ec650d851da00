"""The parser of replies agrees with h11, wherever the bytes are cut."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import h11
from hypothesis import given
from hypothesis import strategies as st

from router.relay.http1 import MAX_HEAD_BYTES, Body, ProtocolError, split_head


@dataclass(frozen=True)
class Read:
    """What a parser made of a connection's bytes; `ended` False: cut short."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    ended: bool


def ours(pieces: list[bytes]) -> Read | None:
    """Read a reply by the router's parser; None where it refuses."""
    buffer, payload, head, body = b"", b"", None, None
    try:
        for piece in pieces:
            data = piece
            if body is None:
                buffer += piece
                found = split_head(buffer)
                if found is None:
                    continue
                head, data = found
                body = Body(head)
            payload += body.feed(data)
    except ProtocolError:
        return None
    if head is None or body is None:
        return None
    body.close()
    return Read(head.status, head.headers, payload, body.ended)


def theirs(pieces: list[bytes]) -> Read | None:
    """Read it by h11; None where it refuses."""
    client = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD_BYTES)
    client.send(h11.Request(method="GET", target="/", headers=[("Host", "x")]))
    client.send(h11.EndOfMessage())
    response, payload = None, b""
    try:
        for piece in (*[each for each in pieces if each], b""):
            client.receive_data(piece)
            while True:
                event = client.next_event()
                if event is h11.NEED_DATA or event is h11.PAUSED:
                    break
                if isinstance(event, h11.Response):
                    response = event
                elif isinstance(event, h11.Data):
                    payload += event.data
                elif isinstance(event, (h11.EndOfMessage, h11.ConnectionClosed)):
                    assert response is not None
                    return _read(response, payload, ended=True)
    except h11.RemoteProtocolError as error:
        if response is not None and "closed" in str(error):
            return _read(response, payload, ended=False)
        return None
    return None


def _read(response: h11.Response, payload: bytes, *, ended: bool) -> Read:
    headers = [(k.decode(), v.decode("latin-1")) for k, v in response.headers]
    return Read(response.status_code, tuple(headers), payload, ended)


@st.composite
def replies(draw):
    """A whole reply, in each of the three framings, perhaps cut short."""
    content = draw(st.lists(st.binary(min_size=1, max_size=30), max_size=5))
    status = draw(st.sampled_from([200, 204, 304, 404, 500]))
    lines = [f"HTTP/1.1 {status} {draw(st.sampled_from(['OK', '', 'Not Found']))}"]
    names = st.text("abcXYZ-0123456789", min_size=1, max_size=8)
    values = st.text('abc ;=,"/ü\t', max_size=12)
    extra = draw(st.lists(st.tuples(names, values), max_size=4))
    lines += [f"X-{name}:{value}" for name, value in extra]
    body = b"" if status in {204, 304} else b"".join(content)
    match draw(st.sampled_from(["length", "chunked", "close"])):
        case "length":
            lines.append(f"Content-Length: {len(body)}")
        case "chunked" if body or status not in {204, 304}:
            lines.append("Transfer-Encoding: chunked")
            extension = draw(st.sampled_from([b"", b";x", b';x="y"', b" "]))
            trailer = draw(st.sampled_from([b"", b"X-Sum: 1\r\n", b"A: b\r\nC: d\r\n"]))
            chunks = [b"%X%b\r\n%b\r\n" % (len(c), extension, c) for c in content]
            body = b"".join(chunks) + b"0\r\n" + trailer + b"\r\n"
        case _:
            pass
    interim = draw(st.sampled_from([b"", b"HTTP/1.1 100 Continue\r\n\r\n"]))
    raw = interim + "\r\n".join([*lines, "", ""]).encode("latin-1") + body
    return raw[: draw(st.sampled_from([len(raw), draw(st.integers(0, len(raw)))]))]


def cut(raw: bytes, at: list[int]) -> list[bytes]:
    edges = [0, *sorted(each % (len(raw) + 1) for each in at), len(raw)]
    return [raw[a:b] for a, b in itertools.pairwise(edges)]


cuts = st.lists(st.integers(0, 10_000), max_size=8)


@given(replies(), cuts)
def test_sound_replies_are_read_alike(raw, at):
    """Status, headers, body and whether it is whole: as the reference says."""
    pieces = cut(raw, at)
    assert theirs(pieces) == ours(pieces)


@given(replies(), cuts, st.data())
def test_damaged_replies_are_not_taken_for_whole(raw, at, data):
    """Where the reference refuses, nothing whole of another content is read."""
    where = data.draw(st.integers(0, max(0, len(raw) - 1)))
    damaged = raw[:where] + data.draw(st.binary(max_size=2)) + raw[where + 1 :]
    pieces = cut(damaged, at)
    reference, own = theirs(pieces), ours(pieces)
    if reference and own:
        assert (reference.status, reference.body) == (own.status, own.body)


@given(st.integers(MAX_HEAD_BYTES - 40, MAX_HEAD_BYTES + 200), cuts)
def test_oversized_heads_are_refused_by_both(size, at):
    """The limit is a limit wherever the head is cut; beneath it all is read."""
    raw = b"HTTP/1.1 200 OK\r\nX: " + b"x" * (size - 25) + b"\r\n\r\n"
    pieces = cut(raw, at)
    if size <= MAX_HEAD_BYTES:
        assert ours(pieces) == theirs(pieces)
    else:
        assert ours([raw[:-2]]) is None
        assert theirs([raw[:-2]]) is None
