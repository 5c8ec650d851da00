"""Who sends a request: an API key, an operator's token, or an address; pure."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache

from router.model import canonical
from router.text.api_key import Scope

ALL_SCOPES = frozenset(Scope)


@dataclass(frozen=True, slots=True)
class Principal:
    """Who sends a request, as established by the router.

    id:       `key:ID`, `user:NAME`, `token:NAME` or `client:ADDRESS`: identifies it in
              usage, limits and fair shares
    name:     for people: of the key, the user or the token, or `anonymous`
    owner:    who owns its jobs, files and records; empty: nobody
    tags:     groups of keys with common limits
    scopes:   what it may do
    models:   patterns of the models that it may use; empty: all
    sees_all: whether it sees what others own
    key:      id of the key whose limits apply; empty: none
    """

    id: str
    name: str
    owner: str = ""
    tags: tuple[str, ...] = ()
    scopes: frozenset[Scope] = ALL_SCOPES
    models: tuple[str, ...] = ()
    sees_all: bool = False
    key: str = ""

    @property
    def label(self) -> str:
        """The name with its kind, for the log and the history."""
        return f"key:{self.name}" if self.id.startswith("key:") else self.name

    def may(self, scopes: frozenset[Scope]) -> bool:
        """Say whether it has one of these scopes."""
        return not self.scopes.isdisjoint(scopes) or Scope.ADMIN in self.scopes

    def may_use(self, model: str) -> bool:
        """Say whether it may use a model, by any of its names."""
        return allows(self.models, model)

    def sees(self, owner: str) -> bool:
        """Say whether it may see what belongs to `owner`."""
        return self.sees_all or (owner != "" and owner == self.owner)


def allows(patterns: tuple[str, ...], model: str) -> bool:
    """Say whether patterns allow a model, by any of its names; no patterns: all."""
    return not patterns or _matches(canonical(model), patterns)


@lru_cache(maxsize=4096)
def _matches(model: str, patterns: tuple[str, ...]) -> bool:
    name = model.lower()
    return any(
        fnmatchcase(name, pattern.lower())
        or ("*" not in pattern and name == canonical(pattern).lower())
        for pattern in patterns
    )


@lru_cache(maxsize=4096)
def anonymous(address: str) -> Principal:
    """Return the principal of a client without a key: its address."""
    return Principal(f"client:{address}", "anonymous", sees_all=True)


def operator(name: str, scopes: frozenset[Scope] = ALL_SCOPES) -> Principal:
    """Return the principal of an operator's token, or of this machine's operator."""
    return Principal(name, name, scopes=scopes, sees_all=Scope.ADMIN in scopes)
