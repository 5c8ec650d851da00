"""Who sends a request: a key, a token of the operator's, or an address; pure."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache

from router.api_key import Scope
from router.model import canonical

ALL_SCOPES = frozenset(Scope)


@dataclass(frozen=True, slots=True)
class Principal:
    """Who sends a request, as the router knows it, whatever the request says.

    id:       `key:ID`, `user:NAME`, `token:NAME`, `client:ADDRESS`: who is counted and
              shared with
    name:     for people: the key's name, the user's, the token's, or `anonymous`
    owner:    whose jobs, files and records they are; empty: nobody's
    tags:     groups of keys that have limits in common
    scopes:   what it may ask for
    models:   patterns of the models that it may use; empty: all
    sees_all: whether it sees also what others own
    key:      id of the key whose limits hold for it; empty: of none
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
        """Its name with its kind, for the log and the history."""
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
    """Say whether patterns let a model through, by any of its names; none: all do."""
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
    """Return who holds a token of the operator's, or sits at this machine."""
    return Principal(name, name, scopes=scopes, sees_all=Scope.ADMIN in scopes)
