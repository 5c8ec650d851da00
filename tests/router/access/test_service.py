"""Keys that are made, rotated and revoked, and outlive the router."""

from __future__ import annotations

import sqlite3
from types import SimpleNamespace

import pytest

from router.access.file import KeysFile, KeyTerms, parse_keys
from router.access.keys import KeyState, UnknownKeyError
from router.access.service import KeyService
from router.access.store import FILE, KeyStore
from router.errors import (
    ConflictError,
    ForbiddenError,
    NotFoundError,
    UnauthorizedError,
    UnavailableError,
)
from router.text.api_key import PREFIX, Scope, digest_of

FULL = KeyTerms.model_validate(
    {
        "name": "alice",
        "owner": "team-a",
        "tags": ["staff"],
        "scopes": ["jobs", "admin"],
        "models": ["llama3*"],
        "networks": ["10.0.0.0/8", "fd00::/8"],
        "expires": "2030-01-01",
    }
)
PROXY = KeyTerms.model_validate(
    {
        "name": "sso",
        "tags": ["staff"],
        "scopes": ["inference", "jobs"],
        "models": ["llama3*"],
        "limits": {"requests_per_minute": 5},
        "user_header": "X-Forwarded-User",
    }
)


@pytest.fixture
def rig(tmp_path):
    """What a service stands on; `service()` starts one, as a restart would."""
    rig = SimpleNamespace(now=1_000.0, of_file=None, mode="auto")

    def service() -> KeyService:
        return KeyService(
            KeyStore(tmp_path),
            lambda: rig.of_file,
            lambda: rig.mode,
            lambda: rig.now,
        )

    rig.service, rig.folder = service, tmp_path
    return rig


def test_a_key_outlives_the_router(rig):
    """All of its terms, and of its secret only the digest and its beginning."""
    service = rig.service()
    made, secret = service.create(FULL)
    assert secret.startswith(PREFIX)
    service.close()
    again = rig.service()
    assert (made,) == again.ring.keys
    assert "alice" == again.ring.principal(secret, "10.0.0.1", rig.now).name
    assert secret.encode() not in (rig.folder / FILE).read_bytes()


def test_users_of_a_proxy(rig):
    """Each is somebody of its own, on the key's terms, now and after a restart."""
    made, secret = rig.service().create(PROXY)
    service = rig.service()
    headers = {"X-Forwarded-User": "alice@example.org"}
    alice = service.ring.principal(secret, "10.0.0.1", 1_000.0, headers.__getitem__)
    assert ("user:alice@example.org",) * 3 == (alice.id, alice.name, alice.owner)
    assert (made.scopes, made.models, made.tags) == (
        alice.scopes,
        alice.models,
        alice.tags,
    )
    assert not alice.sees(f"key:{made.id}")
    assert not alice.sees("user:bob")
    assert ((alice.id, made.limits),) == service.limits.of(alice).limits
    assert alice == service.principal(alice.id)


@pytest.mark.parametrize("name", ["", "eve,alice", "{user}", "a\nb", "a" * 201])
def test_no_user_of_a_proxy(rig, name):
    """Nobody, two at once, or what no name is: refused, with the header's name."""
    service = rig.service()
    _, secret = service.create(PROXY)
    with pytest.raises(ForbiddenError, match="X-Forwarded-User"):
        service.ring.principal(secret, "10.0.0.1", 1_000.0, lambda _: name)


def test_nothing_is_written_before_the_first_key(rig):
    """A router without keys needs no disk for them, and no key."""
    service = rig.service()
    assert not service.required
    assert [] == list(rig.folder.iterdir())
    service.create(KeyTerms(name="a"))
    assert service.required


@pytest.mark.parametrize(
    ("mode", "keys", "required"),
    [
        ("auto", None, False),
        ("auto", KeysFile(), True),  # a file without keys is one that lets nobody in
        ("required", None, True),
        ("off", KeysFile(), False),
    ],
)
def test_when_a_key_is_needed(rig, mode, keys, required):
    """By the setting, and by whether there are any."""
    rig.mode, rig.of_file = mode, keys
    assert required is rig.service().required


def test_the_last_key_does_not_open_the_door(rig):
    """Revoked and expired keys are keys: who has none is kept out."""
    service = rig.service()
    made, secret = service.create(KeyTerms(name="a"))
    revoked = service.revoke("a")
    assert KeyState.REVOKED is revoked.state(rig.now)
    assert service.revoke(made.id) == revoked
    assert service.required
    with pytest.raises(UnauthorizedError, match="revoked"):
        service.ring.principal(secret, "", rig.now)
    service.close()
    assert rig.service().required


def test_rotation(rig):
    """Both secrets work, then one does."""
    service = rig.service()
    _, old = service.create(KeyTerms(name="a"))
    _, new = service.rotate("a", 60)
    for secret in (old, new):
        assert "a" == service.ring.principal(secret, "", rig.now).name
    with pytest.raises(UnauthorizedError, match="rotated"):
        service.ring.principal(old, "", rig.now + 60)
    _, newest = service.rotate("a", 0)
    with pytest.raises(UnknownKeyError):
        service.ring.principal(new, "", rig.now)
    assert service.ring.principal(newest, "", rig.now)


def test_names(rig):
    """A name is one key in force; a revoked one's may be given again."""
    service = rig.service()
    first, _ = service.create(KeyTerms(name="a"))
    with pytest.raises(ConflictError, match="there is a key 'a'"):
        service.create(KeyTerms(name="a"))
    service.revoke("a")
    second, _ = service.create(KeyTerms(name="a"))
    assert second.id == service.get("a").id
    assert first.id == service.get(first.id).id
    with pytest.raises(NotFoundError, match="no key 'b'"):
        service.get("b")
    with pytest.raises(ConflictError, match="is revoked"):
        service.rotate(first.id, 60)


def test_keys_of_the_file(rig):
    """They work beside the others, follow the file, and are changed there only."""
    rig.of_file = parse_keys(f"keys: [{{name: f, sha256: {digest_of('x')}}}]")
    service = rig.service()
    assert "f" == service.ring.principal("x", "", rig.now).name
    with pytest.raises(ConflictError, match="changed in its file"):
        service.revoke("f")
    service.create(KeyTerms(name="a"))
    rig.of_file = KeysFile()
    service.apply()
    assert ["a"] == [each.name for each in service.ring]


def test_a_store_that_cannot_be_read_opens_nothing(rig):
    """Keys are asked for, none of the store works, and none is made over it."""
    (rig.folder / FILE).write_bytes(b"no database" * 1000)
    service = rig.service()
    assert service.required
    assert service.fault is not None
    with pytest.raises(UnavailableError, match="nothing was changed"):
        service.create(KeyTerms(name="a"))


def test_a_key_of_a_newer_release_is_a_fault(rig):
    """A scope that is not known here is not guessed at."""
    service = rig.service()
    service.create(KeyTerms(name="a", scopes=[Scope.JOBS]))
    service.close()
    with sqlite3.connect(rig.folder / FILE) as database:
        database.execute("UPDATE keys SET content = replace(content, 'jobs', 'moon')")
    assert "not a key" in str(rig.service().fault)
