"""Who may ask what, with a key and without, by the area of a route; pure.

`docs/access.md` is written from here, and a test asks a real router for each row.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

from router.access.principal import ALL_SCOPES
from router.relay.protocols import ROUTES
from router.text.api_key import Scope
from router.web.inference.paths import passed_on, tidy


class Area(StrEnum):
    """The router's routes, by what they give to whoever may ask them."""

    INFERENCE = "inference"
    JOBS = "jobs"
    ADMIN = "admin"
    WEBHOOK = "webhook"
    TELEMETRY = "telemetry"


OLD_JOBS = "/batches"  # what `/v1/jobs` was called before 0.2
_PREFIXES = (
    ("/admin", Area.ADMIN),
    ("/boards", Area.ADMIN),
    ("/usage", Area.ADMIN),
    ("/webhook", Area.WEBHOOK),
    ("/v1/jobs", Area.JOBS),
    (OLD_JOBS, Area.JOBS),
    ("/jobs", Area.JOBS),
    ("/v1/batches", Area.JOBS),
    ("/v1/files", Area.JOBS),
    ("/v1/uploads", Area.JOBS),
    ("/v1/models", Area.INFERENCE),
    ("/api", Area.INFERENCE),
)


def area_of(path: str) -> Area:
    """Return a path's area; what is none of the known ones is shut to most."""
    if path in ROUTES:
        return Area.INFERENCE
    path = tidy("/" + path.lstrip("/"))
    if path == "/" or path in ROUTES:
        return Area.INFERENCE
    for prefix, area in _PREFIXES:
        if path == prefix or path.startswith(f"{prefix}/"):
            return area
    return Area.INFERENCE if passed_on(path) else Area.TELEMETRY


READS = frozenset({"GET", "HEAD"})
# What web pages may ask: of this machine and applications, and those in `web.origins`.
LOCAL_PAGES = frozenset({Area.INFERENCE})
NAMED_PAGES = frozenset({Area.INFERENCE, Area.JOBS})


class Grant(StrEnum):
    """What somebody without a credential gets."""

    OPEN = "open"
    UNLESS_TOKEN = "open unless `admin.token_file` is set"  # noqa: S105 - as below
    TOKEN = "token"  # noqa: S105 - a word of the table
    IF_NAMED = "if in `web.origins`"
    NO = "no"


@dataclass(frozen=True, slots=True)
class RouteAccess:
    """What a route gives without a credential, by where the request comes from.

    here:       this machine, through no proxy and by a loopback name
    elsewhere:  another machine, or whatever a proxy passes on
    local_page: a web page of this machine, or an application
    other_page: any other web page
    """

    here: Grant
    elsewhere: Grant
    local_page: Grant
    other_page: Grant


_OPEN = frozenset(
    {"/", "/healthz", "/readyz", "/openapi.json", "/jobs/login", "/jobs/logout"}
)
_OPEN_BELOW = ("/jobs/assets/", "/boards/assets/")
_EXPLAIN = "/admin/explain"
_USAGE = frozenset({"/admin/usage", "/usage"})
_OF_AREA = {
    Area.INFERENCE: frozenset({Scope.INFERENCE}),
    Area.JOBS: frozenset({Scope.JOBS}),
    Area.WEBHOOK: frozenset({Scope.WEBHOOK}),
}
_ADMIN = frozenset({Scope.ADMIN})
_ADMIN_READ = frozenset({Scope.ADMIN_READ})
# Whose request it was may see how it was decided, and what it took.
_OWN_RECORDS = frozenset({Scope.ADMIN_READ, Scope.INFERENCE})
_METRICS = frozenset({Scope.METRICS})


@lru_cache(maxsize=4096)
def scopes_of(path: str, method: str) -> frozenset[Scope] | None:
    """Return the scopes of which a key needs one; None: no key is needed.

    What is no route of ours needs some key, whatever it is for.
    """
    area = area_of(path)
    path = tidy("/" + path.lstrip("/"))
    if path in _OPEN or path.startswith(_OPEN_BELOW):
        return None
    if area is Area.ADMIN:
        if method not in READS:
            return _ADMIN
        below = path in {_EXPLAIN, *_USAGE} or path.startswith(f"{_EXPLAIN}/")
        return _OWN_RECORDS if below else _ADMIN_READ
    if path == "/metrics":
        return _METRICS
    return _OF_AREA.get(area, ALL_SCOPES)


# What parts of paths name: things of an owner, and things of the fleet's.
OWNED = frozenset({"job", "file", "upload", "request_id"})
_SHARED = frozenset(
    {"name", "key", "path:name", "path:filename"}
    | {"uid", "int:number", "int:panel", "target"}  # of boards
)
_LISTS = frozenset({"/v1/jobs", "/v1/batches", "/v1/files", "/jobs", _EXPLAIN, *_USAGE})
_PART = re.compile(r"<([^>]+)>")


class Foreign(StrEnum):
    """What of a route's things the key of another owner sees."""

    NOTHING = "404"
    LEFT_OUT = "left out"
    NO_MATTER = ""


def foreign(path: str, method: str) -> Foreign:
    """Say what others see of an owner's things. Raises LookupError.

    A route with a part that is not known here must be given its place above.
    """
    parts = frozenset(_PART.findall(path))
    if unknown := parts - OWNED - _SHARED:
        raise LookupError(f"{path}: is {unknown} an owner's? (router.web.access)")
    if parts & OWNED:
        return Foreign.NOTHING
    return Foreign.LEFT_OUT if path in _LISTS and method in READS else Foreign.NO_MATTER


def access(path: str, method: str) -> RouteAccess:
    """Say who may use a route without a credential."""
    area = area_of(path)
    here = elsewhere = Grant.OPEN
    if area is Area.WEBHOOK:
        here = elsewhere = Grant.TOKEN
    elif area is Area.ADMIN and method not in READS:
        here, elsewhere = Grant.UNLESS_TOKEN, Grant.TOKEN
    return RouteAccess(
        here,
        elsewhere,
        local_page=Grant.OPEN if area in LOCAL_PAGES else Grant.NO,
        other_page=Grant.IF_NAMED if area in NAMED_PAGES else Grant.NO,
    )
