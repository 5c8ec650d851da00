"""Who sends a request: a key, a token of the operator's, or an address; pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

__all__ = ["ALL_SCOPES", "Principal", "Scope", "anonymous"]


class Scope(StrEnum):
    """What a key is for; a route asks for one of them."""

    INFERENCE = "inference"
    JOBS = "jobs"
    ADMIN_READ = "admin-read"
    ADMIN = "admin"
    METRICS = "metrics"
    WEBHOOK = "webhook"


ALL_SCOPES = frozenset(Scope)


@dataclass(frozen=True, slots=True)
class Principal:
    """Who sends a request, as the router knows it, whatever the request says.

    id:       `key:ID`, `token:NAME` or `client:ADDRESS`: who is counted and shared with
    name:     for people: the key's name, the token's, or `anonymous`
    owner:    whose jobs, files and records they are; empty: nobody's
    tags:     groups of keys that have limits in common
    scopes:   what it may ask for
    models:   patterns of the models that it may use; empty: all
    sees_all: whether it sees also what others own
    """

    id: str
    name: str
    owner: str = ""
    tags: tuple[str, ...] = ()
    scopes: frozenset[Scope] = ALL_SCOPES
    models: tuple[str, ...] = ()
    sees_all: bool = False


@lru_cache(maxsize=4096)
def anonymous(address: str) -> Principal:
    """Return the principal of a client without a key: its address."""
    return Principal(f"client:{address}", "anonymous", sees_all=True)
