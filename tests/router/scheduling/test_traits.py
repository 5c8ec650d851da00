"""What a body tells of its work without being parsed."""

from __future__ import annotations

import json

import pytest

from router.scheduling.request import Traits
from router.scheduling.traits import traits_of


def body(**fields) -> bytes:
    return json.dumps({"model": "m", **fields}).encode()


@pytest.mark.parametrize(
    ("fields", "most"),
    [
        ({"options": {"num_predict": 7}}, 7),
        ({"max_tokens": 300}, 300),
        ({"max_completion_tokens": 40}, 40),
        ({"max_output_tokens": 50}, 50),
        ({"options": {"num_predict": -1}}, None),
        ({"options": {"num_predict": 0}}, None),
        ({"max_tokens": None}, None),
        ({"max_tokens": "9"}, None),
        ({"prompt": 'say {"max_tokens": 3}'}, None),
        ({}, None),
    ],
    ids=[
        "Ollama's",
        "OpenAI's",
        "OpenAI's newer",
        "of responses",
        "no limit",
        "none either",
        "null",
        "a string",
        "in a text",
        "absent",
    ],
)
def test_the_limit_of_the_answer(fields, most):
    """Read wherever a protocol has it, and not out of texts."""
    assert most == traits_of(body(**fields)).most_tokens


@pytest.mark.parametrize(
    ("fields", "shape"),
    [
        ({"tools": [{}]}, "tools"),
        ({"format": "json"}, "format"),
        ({"response_format": {"type": "json_object"}}, "format"),
        ({"prompt": 'the "tools" of "format"'}, ""),
    ],
)
def test_what_binds_the_answer(fields, shape):
    """Tools and formats make another kind of answer."""
    assert shape == traits_of(body(**fields)).shape


def test_text_is_counted_without_pictures():
    """A picture of a megabyte is no prompt of a megabyte."""
    text = "what is in this picture? " * 100
    sent = body(messages=[{"content": text, "images": ["A" * 1_000_000]}])
    assert len(text) <= traits_of(sent).prompt_bytes < len(text) + 200


def test_a_long_text_is_looked_at_at_both_ends():
    """Fields stand before the text or behind it."""
    text = "lorem ipsum " * 100_000
    first = body(max_tokens=5, prompt=text)
    last = body(prompt=text, max_tokens=5)
    assert [5, 5] == [traits_of(each).most_tokens for each in (first, last)]
    assert len(last) == traits_of(last).prompt_bytes


def test_no_body_at_all():
    """Whatever it is, nothing is known of it."""
    assert Traits() == traits_of(b"")
