"""Replies are parsed the same wherever their bytes are cut."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.relay.http1 import (
    MAX_HEAD_BYTES,
    Body,
    ProtocolError,
    split_head,
    whole_chunks,
)


def parse(raw: bytes, cuts: list[int]) -> tuple[int, bytes, Body]:
    """Feed a whole connection's bytes in pieces, then its close."""
    edges = [0, *sorted(c % (len(raw) + 1) for c in cuts), len(raw)]
    buffer, payload, head, body = b"", b"", None, None
    for start, end in itertools.pairwise(edges):
        data = raw[start:end]
        if body is None:
            buffer += data
            found = split_head(buffer)
            if found is None:
                continue
            head, data = found
            body = Body(head)
        payload += body.feed(data)
    assert head is not None
    assert body is not None
    body.close()
    return head.status, payload, body


def chunked(pieces: list[bytes], trailer: bytes = b"") -> bytes:
    framed = b"".join(b"%x;x=1\r\n%b\r\n" % (len(p), p) for p in pieces if p)
    return (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n" + framed + b"0\r\n" + trailer + b"\r\n"
    )


cuts = st.lists(st.integers(0, 10_000), max_size=12)


@given(st.lists(st.binary(max_size=40), max_size=6), cuts, st.booleans())
def test_chunked_bodies_cut_anywhere(pieces, cuts, with_trailer):
    """Chunk framing, extensions, trailers and interim heads fall away."""
    raw = chunked(pieces, b"X-Sum: 1\r\n" if with_trailer else b"")
    status, payload, body = parse(raw, cuts)
    assert (200, b"".join(pieces), True) == (status, payload, body.reusable)


@given(st.binary(max_size=60), cuts)
def test_bodies_of_known_length_cut_anywhere(content, cuts):
    """Content-Length ends the body, and the connection may be used again."""
    raw = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(content), content)
    _, payload, body = parse(raw, cuts)
    assert (content, True) == (payload, body.reusable)


@given(st.binary(max_size=60), cuts)
def test_bodies_ended_by_the_close(content, cuts):
    """Without a length the close is the end, and the connection is spent."""
    _, payload, body = parse(b"HTTP/1.1 200 OK\r\n\r\n" + content, cuts)
    assert (content, True, False) == (payload, body.ended, body.reusable)


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=4), cuts, st.booleans())
def test_whole_chunks_are_told_from_others(pieces, cuts, ended):
    """What counts as whole chunks is what the slow way makes of them."""
    raw = b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in pieces)
    raw += b"0\r\n\r\n" if ended else b""
    end = cuts[0] % (len(raw) + 1) if cuts else len(raw)
    found = split_head(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    assert found is not None
    body = Body(found[0])
    payload = body.feed(raw[:end])
    whole = whole_chunks(raw[:end])
    assert whole == (payload if body.between_chunks else b"")
    assert not whole or not body.ended


def test_cut_chunk_is_no_end():
    """A node that dies inside a chunk has not ended its body."""
    whole = chunked([b"hello world"])
    _, payload, body = parse(whole[:-12], [])
    assert not body.ended
    assert b"hello world".startswith(payload)


def test_surplus_bytes_spend_the_connection():
    """Bytes behind the end belong to nothing: the connection is not reused."""
    _, payload, body = parse(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nabcd", [])
    assert (b"ab", True, False) == (payload, body.ended, body.reusable)


def test_connection_close_is_honoured():
    """A node that says close is not asked again on that connection."""
    raw = b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"
    _, _, body = parse(raw, [])
    assert (True, False) == (body.ended, body.reusable)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"SSH-2.0-x\r\n\r\n", "not a status line: 'SSH-2.0-x'"),
        (b"HTTP/1.1 20x OK\r\n\r\n", "not a status line: 'HTTP/1.1 20x OK'"),
        (b"HTTP/1.1 200 OK\r\nbad header\r\n\r\n", "not a header: 'bad header'"),
        (b"HTTP/1.1 200 OK\r\n folded: x\r\n\r\n", "not a header: ' folded: x'"),
        (b"HTTP/1.1 200 OK\r\nA B: x\r\n\r\n", "not a header: 'A B: x'"),
        (
            b"HTTP/1.1 200 OK\r\nA: b\nTransfer-Encoding: chunked\r\n\r\n",
            "control characters in the head",
        ),
        (b"x" * (MAX_HEAD_BYTES + 1), f"head over {MAX_HEAD_BYTES} bytes"),
    ],
    ids=[
        "other protocol",
        "bad status",
        "no colon",
        "folded header",
        "space in a name",
        "header behind a bare LF",
        "endless head",
    ],
)
def test_heads_that_are_none(raw, message):
    """Each malformed head is told from a short one."""
    with pytest.raises(ProtocolError) as caught:
        split_head(raw)
    assert message == str(caught.value)


@pytest.mark.parametrize(
    ("framed", "message"),
    [
        (b"zz\r\n", "bad chunk size b'zz'"),
        (b"-1\r\n", "bad chunk size b'-1'"),
        (b"\r\n", "bad chunk size b''"),
        (b"2\r\nabXX", "chunk not ended by CRLF"),
        (b"1" * 300, "chunk size line or trailer too long"),
    ],
    ids=["not hex", "negative", "empty", "no CRLF", "endless size line"],
)
def test_chunks_that_are_none(framed, message):
    """Each malformed chunk is refused, not guessed at."""
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    with pytest.raises(ProtocolError) as caught:
        parse(head + framed, [])
    assert message == str(caught.value)


@pytest.mark.parametrize("lengths", ["1\r\nContent-Length: 2", "x", "+1"])
def test_lengths_that_are_none(lengths):
    """Contradicting or ill-formed lengths are refused."""
    raw = f"HTTP/1.1 200 OK\r\nContent-Length: {lengths}\r\n\r\n".encode()
    with pytest.raises(ProtocolError, match="bad content-length"):
        parse(raw, [])
