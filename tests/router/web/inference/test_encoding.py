"""Compressed bodies: all that is well known, within bounds, and nothing else."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable

import brotli
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.errors import (
    BadRequestError,
    BodyTooLargeError,
    UnsupportedEncodingError,
)
from router.web.inference.encoding import coding_of, decode, most_decoded, zstd

MIB = 1024 * 1024


def bare_deflate(data):
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "zstd": zstd.compress,
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "deflate": zlib.compress,
    "br": lambda data: brotli.compress(data, quality=1),
}
codings = pytest.mark.parametrize("coding", PACKERS)


@codings
@given(data=st.binary(max_size=2000))
def test_round_trip(coding, data):
    """What was packed comes back as it was."""
    assert data == decode(PACKERS[coding](data), coding, MIB)


@codings
def test_large(coding):
    """A body that is many pieces long comes back as it was."""
    data = b"".join(b"%d, " % number for number in range(300_000))
    assert data == decode(PACKERS[coding](data), coding, 4 * MIB)


def test_bare_deflate():
    """Deflate is taken with and without zlib's frame, as browsers do."""
    assert b"abc" * 999 == decode(bare_deflate(b"abc" * 999), "deflate", MIB)


@pytest.mark.parametrize("coding", ["zstd", "gzip"])
def test_several_parts(coding):
    """Frames, or members, one behind the other are one body; too many are none."""
    part = PACKERS[coding](b"abc")
    assert b"abcabc" == decode(part * 2, coding, MIB)
    with pytest.raises(BadRequestError, match="more than 16 parts"):
        decode(part * 17, coding, MIB)


@codings
def test_a_bomb_is_stopped(coding):
    """A body that decodes to more than is allowed is refused on the way there."""
    bomb = PACKERS[coding](bytes(8 * MIB))
    with pytest.raises(BodyTooLargeError, match="decodes to over 524288"):
        decode(bomb, coding, MIB // 2)


@codings
def test_the_ratio_is_bounded(coding):
    """However much is allowed, a body does not grow more than a hundredfold."""
    bomb = PACKERS[coding](bytes(8 * MIB))
    with pytest.raises(BodyTooLargeError, match=f"decodes to over {MIB}"):
        decode(bomb, coding, 64 * MIB)
    assert 100 * 50_000 == most_decoded(50_000, 64 * MIB)
    assert MIB == most_decoded(10, 64 * MIB)


@codings
@pytest.mark.parametrize("kept", [0.5, 0.99])
def test_cut_short(coding, kept):
    """Half of a body is none."""
    whole = PACKERS[coding](bytes(range(256)) * 40)
    with pytest.raises(BadRequestError, match="ends before its time"):
        decode(whole[: int(len(whole) * kept)], coding, MIB)


@codings
@pytest.mark.parametrize("data", [b'{"model":"m"}', b"\x00" * 100, b"\xff" * 100])
def test_something_else(coding, data):
    """A body that is not what its header says is refused."""
    with pytest.raises(BadRequestError, match=f"^the ({coding} )?body "):
        decode(data, coding, MIB)


def test_the_window_is_bounded():
    """A frame of zstd that wants more memory than its window may have is refused."""
    options: dict[int, int] = {zstd.CompressionParameter.window_log: 27}
    packer = zstd.ZstdCompressor(options=options)
    wide = packer.compress(bytes(range(256)) * 40) + packer.flush()
    with pytest.raises(
        BadRequestError, match=r"the body is not zstd: .*too much memory"
    ):
        decode(wide, "zstd", MIB)


@pytest.mark.parametrize(
    ("header", "coding"),
    [
        ("", ""),
        ("identity", ""),
        ("zstd", "zstd"),
        ("ZSTD", "zstd"),
        (" gzip ", "gzip"),
        ("identity, br", "br"),
    ],
)
def test_coding(header, coding):
    """The header is read in any case; `identity` is nothing."""
    assert coding == coding_of(header)


@pytest.mark.parametrize("header", ["compress", "gzip, zstd", "aes128gcm", "x" * 9000])
def test_other_codings(header):
    """Another coding, or two, is refused with what is taken."""
    with pytest.raises(UnsupportedEncodingError) as caught:
        coding_of(header)
    assert caught.value.status == 415
    assert caught.value.message.startswith(
        "Content-Encoding: must be one of zstd, gzip, deflate, br, got"
    )
    assert len(caught.value.message) < 150
