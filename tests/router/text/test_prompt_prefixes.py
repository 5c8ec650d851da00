"""How prompts begin, by digests."""

from __future__ import annotations

import json

import pytest

from router.text.prompt_prefixes import NO_PREFIXES, prefixes_of

SYSTEM = {"role": "system", "content": "Answer in one word."}
FIRST = {"role": "user", "content": "What is the capital of France?"}
ANSWER = {"role": "assistant", "content": "Paris"}
SECOND = {"role": "user", "content": "And of Peru?"}
TOOLS = {
    "role": "assistant",
    "content": "",
    "tool_calls": [{"function": {"name": "x"}}],
}


def shared(before, later):
    """Return the share of a later prompt that who read one before need not read."""
    kept = set(prefixes_of(before).kept)
    return max(
        (share for each, share in prefixes_of(later).known if each in kept), default=0
    )


def chat(*messages, **more):
    return {"messages": list(messages), **more}


def letters(*messages):
    return sum(len(each["content"]) for each in messages)


def test_a_conversation_goes_on():
    """What was read and the answer to it need not be read again."""
    later = SYSTEM, FIRST, ANSWER, SECOND
    found = shared(chat(SYSTEM, FIRST), chat(*later))
    assert letters(SYSTEM, FIRST, ANSWER) / letters(*later) == pytest.approx(found)


def test_another_conversation_with_the_same_system_prompt():
    """Only that is in common."""
    found = shared(chat(SYSTEM, FIRST), chat(SYSTEM, SECOND))
    assert letters(SYSTEM) / letters(SYSTEM, SECOND) == pytest.approx(found)


@pytest.mark.parametrize(
    "later",
    [
        chat({**SYSTEM, "content": "Answer in two words."}, FIRST, ANSWER, SECOND),
        chat(FIRST, SYSTEM),
        chat({**SYSTEM, "role": "user"}, FIRST),
        {"prompt": FIRST["content"]},
    ],
    ids=["another text", "another order", "another role", "no messages"],
)
def test_nothing_in_common(later):
    """A change at the beginning changes all digests."""
    assert 0 == shared(chat(SYSTEM, FIRST), later)


def test_the_same_prompt_again():
    """All of it was read."""
    assert 1.0 == shared(chat(SYSTEM, FIRST), chat(SYSTEM, FIRST))


def test_calls_of_tools_are_messages():
    """They count by their JSON, whatever is in them."""
    result = {"role": "tool", "content": "4", "tool_name": "x"}
    later = chat(SYSTEM, FIRST, TOOLS, result, result, ANSWER, SECOND)
    assert shared(chat(SYSTEM, FIRST), later) > 0.3
    assert shared(chat(SYSTEM, FIRST, TOOLS, result, result), later) > 0.8


@pytest.mark.parametrize("length", [1500, 5000, 70_000])
def test_a_long_text_in_common(length):
    """Of a text before a question at least half is found."""
    text = "".join(map(str, range(length)))[:length]
    before, later = ({"prompt": text + end} for end in ("Who?", "Since when?"))
    assert 0.5 < shared(before, later) <= 1


def test_a_long_conversation():
    """The last ends and the first are looked up, whatever the length."""
    long = [SYSTEM, *([FIRST, ANSWER] * 200)]
    assert shared(chat(*long[:-2]), chat(*long)) > 0.9
    assert shared(chat(SYSTEM, SECOND), chat(*long)) > 0
    assert len(prefixes_of(chat(*long)).known) < 12


def test_other_protocols():
    """Anthropic's system prompt, and the input of OpenAI's responses."""
    before, later = [FIRST], [FIRST, ANSWER, SECOND]
    system = {"system": [{"type": "text", "text": "Be brief."}]}
    assert shared({"messages": before, **system}, {"messages": later, **system}) > 0.5
    assert 0 == shared({"messages": before, **system}, {"messages": later})
    assert shared({"input": before}, {"input": later}) > 0.5


@pytest.mark.parametrize(
    "fields",
    [
        {},
        chat(),
        {"messages": object()},
        {"messages": ["text"]},
        {"messages": [{}] * 2000},
        {"prompt": object()},
        {"messages": [{"role": "user", "content": json.loads("[" * 600 + "]" * 600)}]},
    ],
    ids=["empty", "none", "not read", "texts", "too many", "prompt not read", "deep"],
)
def test_what_has_no_beginning(fields):
    """Nothing is known of it, and nothing fails."""
    assert NO_PREFIXES == prefixes_of(fields)


def test_odd_messages():
    """What Ollama would refuse is no fault here."""
    odd = [{}, {"role": {}, "content": 1}, {"content": ""}]
    assert prefixes_of({"messages": odd}).kept
