"""`keys.yml`: what it says, and each fault with its place."""

from __future__ import annotations

import pytest

from router.access.file import KeysFile, parse_keys
from router.access.keys import KeySecret, KeySource
from router.access.limits import KeyLimits
from router.errors import ConfigError
from router.text.api_key import Scope

A, B = "a" * 64, "b" * 64


def test_a_whole_entry():
    """Every field arrives."""
    found = parse_keys(
        f"""
        keys:
          - name: alice
            sha256: {A}
            previous: [{{sha256: {B}, until: 1970-01-01T00:01:00Z}}]
            owner: team-a
            tags: [staff]
            scopes: [inference, jobs]
            models: ["llama3*"]
            networks: [10.0.0.0/8]
            expires: 1970-01-02
            limits: {{requests_per_minute: 60}}
        limits:
          everyone: {{tokens_per_day: 1000}}
          tags: {{staff: {{concurrent_requests: 2}}}}
        """
    )
    (key,) = found.keys
    assert KeyLimits(requests_per_minute=60) == key.limits
    assert KeyLimits(tokens_per_day=1000) == found.everyone
    assert {"staff": KeyLimits(concurrent_requests=2)} == found.tags
    assert ("file-alice", "alice", KeySource.FILE) == (key.id, key.name, key.source)
    assert (KeySecret(A), KeySecret(B, until=60.0)) == key.secrets
    assert ("team-a", ("staff",)) == (key.owner, key.tags)
    assert frozenset({Scope.INFERENCE, Scope.JOBS}) == key.scopes
    assert (("llama3*",), 86_400.0) == (key.models, key.expires)
    assert ["10.0.0.0/8"] == [str(each) for each in key.networks]


def test_defaults():
    """A name and a digest are enough, for inference."""
    (key,) = parse_keys(f"keys: [{{name: a, sha256: {A}}}]").keys
    assert (frozenset({Scope.INFERENCE}), None) == (key.scopes, key.expires)
    assert KeysFile() == parse_keys("")


@pytest.mark.parametrize(
    ("entry", "fault"),
    [
        ("{sha256: %A}", "keys[0].name: is required"),
        ("{name: a}", "keys[0].sha256: is required"),
        ("{name: a, sha256: xyz}", "keys[0].sha256: must be a SHA-256 in hex: 64 of"),
        ("{name: a b, sha256: %A}", "keys[0].name: must match"),
        ("{name: a, sha256: %A, scopes: [all]}", "keys[0].scopes[0]: must be one of"),
        ("{name: a, sha256: %A, scopes: []}", "keys[0].scopes: must have at least 1"),
        ("{name: a, sha256: %A, networks: [x]}", "networks[0]: must be a network"),
        ("{name: a, sha256: %A, expires: soon}", "expires: must be a date such as"),
        ("{name: a, sha256: %A, limits: {requests: 1}}", "limits.requests: is unkn"),
        ("{name: a, sha256: %A, model: x}", "model: is unknown, perhaps 'models' is"),
        ("{name: a, sha256: %A, user_header: X_User}", "user_header: must match"),
        (
            "{name: a, sha256: %A, user_header: X-User, scopes: [admin]}",
            "keys[0]: must have no scope but inference and jobs",
        ),
        ("{name: a, sha256: %A}, {name: a, sha256: %B}", "keys[1].name: must be uniq"),
        ("{name: a, sha256: %A}, {name: b, sha256: %A}", "keys[1].sha256: must be un"),
    ],
)
def test_faults(entry, fault):
    """Each is refused, with where and what."""
    text = f"keys: [{entry}]".replace("%A", A).replace("%B", B)
    with pytest.raises(ConfigError) as raised:
        parse_keys(text)
    assert fault in str(raised.value)
    assert str(raised.value).startswith("keys.yml: ")
