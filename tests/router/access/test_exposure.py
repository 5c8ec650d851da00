"""Whether other machines reach the router."""

from __future__ import annotations

import pytest

from router.access.exposure import exposed, refusal


@pytest.mark.parametrize(
    ("bind", "published", "expected"),
    [
        ("127.0.0.1:8000", None, None),
        ("127.9.9.9:8000", None, None),
        ("localhost:8000", None, None),
        ("[::1]:8000", None, None),
        ("unix:/run/router.sock", None, None),
        ("0.0.0.0:8000", None, "0.0.0.0:8000"),
        ("[::]:8000", None, "[::]:8000"),
        (":8000", None, ":8000"),
        ("10.0.0.7:8000", None, "10.0.0.7:8000"),
        ("gpu.lan:8000", None, "gpu.lan:8000"),
        ("127.0.0.1:8000,10.0.0.7:8000", None, "10.0.0.7:8000"),
        ("0.0.0.0:8000", "127.0.0.1", None),
        ("0.0.0.0:8000", "::1", None),
        ("0.0.0.0:8000", "0.0.0.0", "0.0.0.0"),
        ("0.0.0.0:8000", "", "0.0.0.0:8000"),
    ],
)
def test_exposed(bind, published, expected):
    """In Docker the published address counts, not the container's own."""
    assert expected == exposed(bind, published)


def test_refusal_names_what_to_do():
    """Whoever reads it once can go on."""
    text = refusal("0.0.0.0:8000")
    assert text.startswith("access.keys: 0.0.0.0:8000 is reached by other machines")
    for each in ("inferops keys create", "ACCESS__KEYS=required", "ACCESS__KEYS=off"):
        assert each in text
