"""Messages between the router and its sandbox, however they are cut on their way."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from router.jobs.input.sandbox.frames import Unpacker, packed

heads = st.dictionaries(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
    st.none() | st.integers(-(2**63), 2**63) | st.lists(st.booleans(), max_size=2),
    max_size=3,
)


@given(
    frames=st.lists(st.tuples(heads, st.binary(max_size=40)), max_size=5),
    size=st.integers(1, 30),
)
def test_what_is_sent_comes_out(frames, size):
    """In pieces of any size."""
    data = b"".join(packed(*frame) for frame in frames)
    unpacker = Unpacker()
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    assert frames == [frame for piece in pieces for frame in unpacker.feed(piece)]


def test_what_json_cannot_say_is_replaced():
    """Half of a surrogate pair, and numbers beyond 64 bits."""
    data = packed({"a\ud800": ["x\ud800", 10**30, True]})
    assert [({"a?": ["x?", str(10**30), True]}, b"")] == list(Unpacker().feed(data))
