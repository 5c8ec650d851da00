"""Members of an object are found as Go would, and nothing dear is built for it."""

from __future__ import annotations

import json
import tracemalloc

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from router.text.json_scan import (
    LARGE,
    JsonError,
    NotAnObjectError,
    TooManyPartsError,
    cheap,
    load,
    members,
)

WANTED = {"model": True, "prompt": True, "stream": False, "messages": False}
MIB = 1024 * 1024

_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)
_NAMES = st.sampled_from(
    ["model", "Model", "MODEL", "stream", "\u017ftream", "prompt", "messages", "x", ""]
)
_PAIRS = st.lists(st.tuples(_NAMES | st.text(max_size=4), _VALUES), max_size=8)


def folded(name):
    return name.replace("\u017f", "s").replace("\u212a", "k").lower()


def as_go(pairs):
    """Say what Go's reader makes of the wanted members, one after the other."""
    found = {}
    for name, value in pairs:
        wanted = WANTED.get(folded(name))
        if wanted is not None and not (wanted and value is None):
            found[folded(name)] = value
    return found


def text_of(pairs, *, indent=None, escaped=True):
    """Write an object whose names may repeat."""
    space = "\n  " if indent else ""
    each = (
        f"{json.dumps(name, ensure_ascii=escaped)}{space}:{space}"
        f"{json.dumps(value, ensure_ascii=escaped, indent=indent)}"
        for name, value in pairs
    )
    return (space + "{" + space + f",{space}".join(each) + space + "}").encode(
        errors="surrogatepass"
    )


@given(_PAIRS, st.sampled_from([None, 2]), st.booleans(), st.binary(max_size=5))
@example([("model", "a"), ("MODEL", "b"), ("model", None)], None, False, b"")
@example([("stream", True), ("stream", None)], None, False, b"]")
@example([("x", '"model":"y"}\\'), ("model", "z")], 2, True, b"}")
def test_as_a_parser_would(pairs, indent, escaped, tail):
    """Every JSON object gives the members that a parser gives, read in Go's way."""
    text = text_of(pairs, indent=indent, escaped=escaped)
    expected = as_go(pairs)
    found = members(text + tail, WANTED)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        short = len(json.dumps(value, ensure_ascii=escaped, indent=indent)) < 500
        assert value == found[name] if short else found[name] in (LARGE, value)


@given(_PAIRS, st.booleans())
def test_quick_and_slow_agree(pairs, escaped):
    """Where a parser is used instead, it gives the same for what is wanted."""
    names = [name for name, _ in pairs]
    if len(set(names)) < len(names):
        return  # only `members` sees each of several
    text = text_of(pairs, escaped=escaped)
    quick = load(text, WANTED)
    if quick is not None:
        slow = members(text, WANTED)
        assert slow == {n: quick[n] for n in WANTED if n in quick} or LARGE in (
            slow.values()
        )


@given(st.binary(max_size=60) | st.text('{}[]",:\\ ae1\n', max_size=60).map(str.encode))
def test_nothing_else_escapes(text):
    """Whatever the bytes are, an object is read, or the text refused as no JSON."""
    try:
        members(text, WANTED)
    except JsonError:
        with pytest.raises((ValueError, AttributeError)):
            orjson.loads(text).keys()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "unexpected end of data"),
        (b"{", "unexpected end of data"),
        (b'{"model":"m"', "unexpected end of data"),
        (b'{"x":"', "unexpected end of data"),
        (b'{"x":"\\"', "unexpected end of data"),
        (b'{"x":[[]', "unexpected end of data"),
        (b'{"x":1 "y":2}', r"unexpected character \(byte 7\)"),
        (b'{model:"m"}', r"unexpected character \(byte 1\)"),
        (b'{"model" "m"}', r"unexpected character \(byte 9\)"),
        (b'{"model":tru}', r"unexpected character \(byte 9\)"),
        (b"hello", r"unexpected character \(byte 0\)"),
        (b"\xef\xbb\xbf{}", r"unexpected character \(byte 0\)"),
    ],
)
def test_faults_are_located(text, message):
    """A text that is cut or wrong where it is looked at is refused with the place."""
    with pytest.raises(JsonError, match=f"^{message}$"):
        members(text, WANTED)


@pytest.mark.parametrize("read", [load, members])
def test_another_value(read):
    """A list is no object."""
    with pytest.raises(NotAnObjectError, match="list"):
        read(b' [{"model":"m"}]', WANTED)


@pytest.mark.parametrize(
    ("text", "model"),
    [
        (b'{"mod\\u0065l":"a"}', "a"),
        (b'{"x":"\xff\xfe","model":"a"}', "a"),
        (b'{"x":"\\ud83d","model":"a"}', "a"),
        (b'{"model":"a"} and more', "a"),
        (b'{"\\x":1,"model":"a"}', "a"),
        (b'{"' + b"k" * 5000 + b'":1,"model":"a"}', "a"),
        (b'{"x":"' + b"\\\\" * 300_000 + b'","model":"a"}', "a"),
        (b'{"x":["' + b'a\\"' * 300_000 + b'"],"model":"a"}', "a"),
        (b'{"x":[' + b" " * 600_000 + b'],"model":"a"}', "a"),
        (b" " * 600_000 + b'{"model":"a"}', "a"),
    ],
    ids=[
        "escaped name",
        "no UTF-8",
        "half of a pair",
        "text behind",
        "odd name",
        "long name",
        "many escapes",
        "many quotes",
        "much space",
        "much space before",
    ],
)
def test_lenient(text, model):
    """What Go takes is taken, and what is not looked at is not judged."""
    assert model == members(text, WANTED)["model"]


def _worst(size):
    yield "lists", b'{"model":"a","x":[' + b"[]," * (size // 3) + b"[]]}"
    yield "objects", b'{"model":"a","x":[' + b"{}," * (size // 3) + b"{}]}"
    yield "small objects", b'{"x":[' + b'{"":0},' * (size // 7) + b"0]}"
    yield "numbers", b'{"model":"a","x":[' + b"1," * (size // 2) + b"1]}"
    yield "floats", b'{"model":"a","x":[' + b"1e9," * (size // 4) + b"1]}"
    yield "strings", b'{"model":"a","x":[' + b'"ab",' * (size // 5) + b"1]}"
    yield "members", b"{" + b'"a":0,' * (size // 6) + b'"model":"a"}'
    yield "levels", b'{"model":"a","x":' + b"[" * size
    yield "name", b'{"model":"' + b"a" * size + b'"}'
    yield "one emoji", '{"model":"a","x":"\U0001f600'.encode() + b"a" * size + b'"}'
    yield "escapes", b'{"model":"a","x":"' + b'\\"' * (size // 2) + b'"}'


@pytest.mark.parametrize(
    "text", [pytest.param(text, id=name) for name, text in _worst(MIB)]
)
def test_nothing_is_built(text):
    """However it is made, a body costs a small share of its own size in memory."""
    tracemalloc.start()
    try:
        assert load(text, WANTED) is None
        found = members(text, WANTED, most_parts=50_000)
    except TooManyPartsError:
        found = {}
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < MIB / 3
    assert found.get("model") in (None, "a", LARGE)


def test_parts_are_bounded():
    """Lists, objects and members are counted wherever they are; so are levels."""
    with pytest.raises(TooManyPartsError, match="more than 3 lists, objects and"):
        members(b'{"a":[[{}]]}', WANTED, most_parts=3)
    assert not members(b'{"a":[[{}]]}', WANTED, most_parts=4)
    with pytest.raises(TooManyPartsError, match="over 10000 levels deep"):
        members(b'{"a":' + b"[" * 20_000, WANTED)


def test_only_small_trees_are_cheap():
    """Text alone may be half a MiB, many values only a little of it."""
    assert cheap(b"[" * 60_000)
    assert cheap(b'"' + b"a," * (MIB // 4 - 2) + b'"')
    assert not cheap(b"a" * (MIB // 2 + 1))
    assert not cheap(b"[1," * 40_000)
    assert not cheap(b'"",' * 40_000)
