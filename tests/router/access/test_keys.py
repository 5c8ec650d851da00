"""Keys: found by digest, in force or not, from where, for which models."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network

import pytest

from router.access.keys import ApiKey, KeyRing, KeySecret, KeySource, KeyState
from router.errors import ForbiddenError, UnauthorizedError
from router.text.api_key import PREFIX, Scope, digest_of, new_secret, shown

SECRET = f"{PREFIX}of-alice"
ALICE = ApiKey("k-1", "alice", (KeySecret(digest_of(SECRET)),), KeySource.STORE)
NOW = 1_000.0


def test_secrets_are_long_and_never_the_same():
    """256 random bits, of which 36 are shown."""
    made = {new_secret() for _ in range(100)}
    assert {len(PREFIX) + 43} == {len(each) for each in made}
    assert 100 == len(made)
    assert f"{PREFIX}abcdef…" == shown(f"{PREFIX}abcdefghijkl")


def test_a_key_is_found_by_what_was_sent():
    """Its principal owns things of its own unless an owner is named."""
    ring = KeyRing.of([ALICE])
    found = ring.principal(SECRET, "10.0.0.1", NOW)
    assert ("key:k-1", "alice", "key:k-1") == (found.id, found.name, found.owner)
    assert not found.sees_all
    assert found.may(frozenset({Scope.INFERENCE}))
    assert not found.may(frozenset({Scope.JOBS, Scope.ADMIN_READ}))
    assert not found.sees("")
    assert not found.sees("key:k-2")


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        ({"revoked": NOW - 1}, "was revoked"),
        ({"expires": NOW}, "has expired"),
        ({"secrets": (KeySecret(digest_of(SECRET), until=NOW),)}, "was rotated"),
        ({"secrets": (KeySecret(digest_of("other")),)}, "not known here"),
    ],
)
def test_keys_that_are_not_in_force(terms, message):
    """Each is 401, and says why to who holds the key."""
    ring = KeyRing.of([replace(ALICE, **terms)])
    with pytest.raises(UnauthorizedError, match=message):
        ring.principal(SECRET, "10.0.0.1", NOW)


@pytest.mark.parametrize(
    ("address", "let_in"),
    [
        ("10.1.2.3", True),
        ("::ffff:10.1.2.3", True),
        ("::ffff:a01:203", True),
        ("172.16.0.9", True),
        ("fd00::5", True),
        ("192.168.0.1", False),
        ("::ffff:c0a8:1", False),
        ("", False),
    ],
)
def test_networks(address, let_in):
    """A key for a network is refused with 403 from elsewhere."""
    written = ("10.0.0.0/8", "fd00::/8", "::ffff:172.16.0.0/112")
    networks = tuple(ip_network(each) for each in written)
    ring = KeyRing.of([replace(ALICE, networks=networks)])
    if let_in:
        assert ring.principal(SECRET, address, NOW)
        return
    with pytest.raises(ForbiddenError, match="from this address"):
        ring.principal(SECRET, address, NOW)


@pytest.mark.parametrize(
    ("model", "allowed"),
    [
        ("llama3.2:3b", True),
        ("Llama3.3", True),
        ("phi4", True),
        ("phi4:latest", True),
        ("library/phi4", True),
        ("phi4:14b", False),
        ("qwen3", False),
    ],
)
def test_models(model, allowed):
    """`*` stands for anything; a name is one model, however it is written."""
    key = replace(ALICE, models=("llama3*", "phi4"))
    assert allowed == key.principal().may_use(model)


def test_rotation_overlaps():
    """Both secrets work for the overlap; a second rotation gives no more time."""
    once = ALICE.rotated(KeySecret("d2"), NOW + 60)
    assert [None, NOW + 60] == [each.until for each in once.secrets]
    twice = once.rotated(KeySecret("d3"), NOW + 600)
    assert [None, NOW + 600, NOW + 60] == [each.until for each in twice.secrets]
    kept = twice.without_old(NOW + 60).secrets
    assert ["d3", "d2"] == [each.digest for each in kept]


def test_admin_may_everything():
    """Its scope has the others in it, and it sees what everybody owns."""
    admin = replace(ALICE, scopes=frozenset({Scope.ADMIN})).principal()
    assert all(admin.may(frozenset({each})) for each in Scope)
    assert admin.sees("key:k-2")


def test_states():
    """What lists show of a key."""
    assert KeyState.ACTIVE is ALICE.state(NOW)
    assert KeyState.EXPIRED is replace(ALICE, expires=NOW).state(NOW)
    assert KeyState.REVOKED is replace(ALICE, expires=NOW, revoked=1.0).state(NOW)
    ring = KeyRing.of([ALICE])
    assert ALICE == ring.in_force("k-1", NOW)
    assert ring.in_force("k-2", NOW) is None
