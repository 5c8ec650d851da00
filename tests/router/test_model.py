"""The one name behind all the forms in which Ollama takes a model's name.

What a real Ollama 0.17.4 answered to each form stands beside it; `tests/e2e` asks
one again where there is one.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.model import canonical, is_model_name

SAME = {
    "counting:latest": (
        "counting",
        "Counting",
        "COUNTING:Latest",
        "library/counting",
        "LIBRARY/counting:latest",
        "registry.ollama.ai/library/counting",
        "Registry.Ollama.AI/Library/Counting:LATEST",
        "https://registry.ollama.ai/library/counting",
        "http://registry.ollama.ai/library/counting:latest",
        "ftp://registry.ollama.ai/library/counting",
        "://registry.ollama.ai/library/counting",
    ),
    "hf.co/somebody/count-gguf:q4_k_m": (
        "hf.co/Somebody/Count-GGUF:Q4_K_M",
        "HF.CO/somebody/count-gguf:q4_k_m",
        "https://hf.co/Somebody/Count-GGUF:Q4_K_M",
    ),
    "me/mine:v2": ("me/mine:v2", "ME/Mine:V2", "registry.ollama.ai/me/Mine:V2"),
    "127.0.0.1:5000/team/thing:1": ("127.0.0.1:5000/team/Thing:1",),
    "127.0.0.1:5000/team/thing:latest": ("127.0.0.1:5000/team/Thing",),
}
OTHERS = (
    "counting:1b",
    "ollama.com/library/counting",
    "huggingface.co/Somebody/Count-GGUF:Q4_K_M",
    "hf.co/Somebody/Count-GGUF",
    "me/counting",
    "counting/latest",
    "x/library/counting",
)
NOT_NAMES = (
    "",
    "counting:",
    ":latest",
    "/counting",
    "//counting",
    "library//counting",
    "counting//latest",
    "counting:latest:latest",
    "counting@sha256:653cc445dd46",
    "counting:latest@sha256:653cc445dd46",
    "@653cc445dd46",
    "../library/counting",
    "a/b/c/d",
    "hf.co/counting",
    "https://counting",
    "https://library/counting",
    "słow",
    "co\u212antingk",
    "count\x00ing",
    "counting\r\nHost: x",
    "a" * 81,
    "counting:" + "a" * 81,
    "a" * 10_000_000,
)


@pytest.mark.parametrize(
    ("name", "form"), [(name, form) for name, forms in SAME.items() for form in forms]
)
def test_one_model(name, form):
    """Each form that Ollama takes for a model is that model's one name."""
    assert name == canonical(form)
    assert is_model_name(form)


@pytest.mark.parametrize("name", OTHERS)
def test_another_model(name):
    """A name that Ollama takes for another model stays another."""
    assert canonical(name) not in SAME
    assert is_model_name(name)


@pytest.mark.parametrize("name", NOT_NAMES, ids=lambda name: repr(name)[:30])
def test_no_name(name):
    """What Ollama's grammar does not allow is no name, and is left as it is."""
    assert not is_model_name(name)
    assert name == canonical(name)


_NAMES = st.from_regex(
    r"((https?://)?[a-zA-Z0-9_.:-]{1,12}/[a-zA-Z0-9_-]{1,9}/)?[a-zA-Z0-9_.-]{1,9}(:[\w.]+)?",
    fullmatch=True,
)


@given(_NAMES)
def test_canonical_is_its_own_form(name):
    """The one name of a name is itself, in whatever case it is written."""
    once = canonical(name)
    assert once == canonical(once)
    assert is_model_name(name) == is_model_name(once)
    if is_model_name(name):
        assert once == canonical(once.upper())
