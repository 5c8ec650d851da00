"""API keys: whose they are, what they allow and until when; pure.

A key is found by the digest of what a client sent, in a dictionary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import lru_cache
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
)

from router.access.limits import NO_LIMITS, KeyLimits
from router.access.principal import Principal
from router.errors import ForbiddenError, UnauthorizedError
from router.text.api_key import Scope, digest_of

Network = IPv4Network | IPv6Network
_LONGEST_USER = 200
_NO_USER = frozenset(",{}")
_MOST_SHOWN = 40


class KeySource(StrEnum):
    """Where a key is stored."""

    FILE = "file"
    STORE = "store"


class KeyState(StrEnum):
    ACTIVE = "active"
    EXPIRED = "expired"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class KeySecret:
    """A secret's digest and first characters; `until`: unix seconds, once rotated."""

    digest: str
    shown: str = ""
    until: float | None = None


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key and its terms. Times are unix seconds.

    secrets:  newest first; older ones work until they expire
    owner:    who owns its jobs and files; empty: the key itself
    models:   patterns of allowed models; empty: all
    networks: from where it may be used; empty: anywhere
    user_header: for a proxy's key, the header that names the user; else empty
    """

    id: str
    name: str
    secrets: tuple[KeySecret, ...]
    source: KeySource
    owner: str = ""
    tags: tuple[str, ...] = ()
    scopes: frozenset[Scope] = frozenset({Scope.INFERENCE})
    models: tuple[str, ...] = ()
    networks: tuple[Network, ...] = ()
    created: float | None = None
    expires: float | None = None
    revoked: float | None = None
    limits: KeyLimits = NO_LIMITS
    user_header: str = ""

    def state(self, now: float) -> KeyState:
        if self.revoked is not None:
            return KeyState.REVOKED
        if self.expires is not None and now >= self.expires:
            return KeyState.EXPIRED
        return KeyState.ACTIVE

    def rotated(self, secret: KeySecret, until: float) -> ApiKey:
        """Add a new secret; older ones work until `until` at most."""
        older = tuple(
            replace(each, until=until if each.until is None else min(each.until, until))
            for each in self.secrets
        )
        return replace(self, secrets=(secret, *older))

    def without_old(self, now: float) -> ApiKey:
        """Drop expired secrets."""
        kept = tuple(s for s in self.secrets if s.until is None or s.until > now)
        return replace(self, secrets=kept)

    def principal(self) -> Principal:
        return Principal(
            id=f"key:{self.id}",
            name=self.name,
            owner=self.owner or f"key:{self.id}",
            tags=self.tags,
            scopes=self.scopes,
            models=self.models,
            sees_all=Scope.ADMIN in self.scopes,
            key=self.id,
        )

    def user(self, name: str) -> Principal:
        """Return the user that the key's proxy names. Raises ForbiddenError."""
        if not _is_user(name):
            raise ForbiddenError(
                "this API key is a proxy's, which names one user in the header"
                f" {self.user_header!r}; got {name[:_MOST_SHOWN]!r}"
            )
        id_ = f"user:{name}"
        return replace(self.principal(), id=id_, name=id_, owner=id_)

    def lets_in(self, address: str) -> bool:
        """Say whether a client at this address may use it."""
        return not self.networks or _within(address, self.networks)


def _is_user(name: str) -> bool:
    """Say whether a header names one user.

    A comma means that client and proxy both sent the header. Braces are a placeholder
    that Caddy leaves if nobody is logged in.
    """
    printable = 0 < len(name) <= _LONGEST_USER and name.isprintable()
    return printable and _NO_USER.isdisjoint(name)


@lru_cache(maxsize=4096)
def _within(address: str, networks: tuple[Network, ...]) -> bool:
    try:
        peer = ip_address(address)
    except ValueError:  # a Unix socket has none
        return False
    forms = {peer, _other_form(peer)}
    return any(form in network for form in forms for network in networks)


def _other_form(peer: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """Return an IPv4 address as IPv6 writes it (`::ffff:a.b.c.d`), or the reverse."""
    if isinstance(peer, IPv6Address):
        return peer.ipv4_mapped or peer
    return IPv6Address(0xFFFF << 32 | int(peer))


class UnknownKeyError(UnauthorizedError):
    """What was sent as a key is none of ours."""

    def __init__(self) -> None:
        super().__init__("this API key is not known here")


@dataclass(frozen=True, slots=True)
class _Entry:
    key: ApiKey
    until: float | None
    principal: Principal


@dataclass(frozen=True, slots=True)
class KeyRing:
    """All keys, by digest; immutable. Build it with `of`."""

    keys: tuple[ApiKey, ...] = ()
    _entries: Mapping[str, _Entry] = field(default_factory=dict)

    @classmethod
    def of(cls, keys: Iterable[ApiKey]) -> KeyRing:
        known = tuple(keys)
        return cls(
            known,
            {
                secret.digest: _Entry(key, secret.until, principal)
                for key in known
                for principal in (key.principal(),)
                for secret in key.secrets
            },
        )

    def __iter__(self) -> Iterator[ApiKey]:
        return iter(self.keys)

    def principal(
        self,
        secret: str,
        address: str,
        now: float,
        header: Callable[[str], str] = lambda _: "",
    ) -> Principal:
        """Return the key's principal, or the user that its proxy names.

        Raises UnknownKeyError if there is no such key, UnauthorizedError if it is not
        in force, ForbiddenError if it may not be used from this address.
        """
        entry = self._entries.get(digest_of(secret))
        if entry is None:
            raise UnknownKeyError
        key = entry.key
        if key.revoked is not None:
            raise UnauthorizedError("this API key was revoked")
        if key.expires is not None and now >= key.expires:
            raise UnauthorizedError("this API key has expired")
        if entry.until is not None and now >= entry.until:
            raise UnauthorizedError("this API key was rotated: a newer one is needed")
        if not key.lets_in(address):
            raise ForbiddenError("this API key may not be used from this address")
        if key.user_header:
            return key.user(header(key.user_header))
        return entry.principal

    def in_force(self, key: str, now: float) -> ApiKey | None:
        """Return the key with this id if it is active, else None."""
        found = next((each for each in self.keys if each.id == key), None)
        if found is None or found.state(now) is not KeyState.ACTIVE:
            return None
        return found
