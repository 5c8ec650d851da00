"""`keys.yml`: API keys in a file, which holds their digests only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)

from router.access.keys import ApiKey, KeySecret, KeySource, Network
from router.access.limits import NO_LIMITS, KeyLimits
from router.config import yaml as document
from router.config.yaml import YamlFault
from router.text.api_key import Scope, is_digest

_Word = Annotated[str, StringConstraints(pattern=r"^[\w.@+-]+$", max_length=80)]
_Header = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9-]*$", max_length=80)
]
_OF_USERS = frozenset({Scope.INFERENCE, Scope.JOBS})
_Pattern = Annotated[str, StringConstraints(pattern=r"^[^\s]+$", max_length=200)]


def _utc(value: object) -> datetime:
    """Read a date, or a date and time, in UTC unless it names a zone."""
    if not isinstance(value, str):
        raise ValueError("must be a date such as 2027-01-31")  # noqa: TRY004 - pydantic collects these
    try:
        found = datetime.fromisoformat(value)
    except ValueError:
        raise ValueError("must be a date such as 2027-01-31") from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _network(value: object) -> object:
    try:
        return ip_network(str(value))
    except ValueError:
        raise ValueError("must be a network such as 10.0.0.0/8") from None


def _scope(value: object) -> Scope:
    try:
        return Scope(str(value))
    except ValueError:
        raise ValueError(f"must be one of {', '.join(Scope)}") from None


def _digest(value: object) -> str:
    if not isinstance(value, str) or not is_digest(value):
        raise ValueError("must be a SHA-256 in hex: 64 of 0-9a-f")
    return value


_Instant = Annotated[datetime, BeforeValidator(_utc)]
_Network = Annotated[Any, BeforeValidator(_network)]
_Scope = Annotated[Scope, BeforeValidator(_scope)]
_Digest = Annotated[str, BeforeValidator(_digest)]


class _Terms(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


_Most = Annotated[int, Field(ge=0, le=2**62)]
_Tokens = Annotated[int, Field(ge=1, le=2**31)]
_Joules = Annotated[int, Field(ge=0, le=10**15)]
_Cost = Annotated[float, Field(ge=0, le=10**9, allow_inf_nan=False)]


class LimitTerms(_Terms):
    """Limits of a key, a tag or everyone; what is left out is unlimited."""

    requests_per_minute: _Most | None = None
    requests_per_day: _Most | None = None
    requests_per_month: _Most | None = None
    tokens_per_minute: _Most | None = None
    tokens_per_day: _Most | None = None
    tokens_per_month: _Most | None = None
    concurrent_requests: _Most | None = None
    max_output_tokens: _Tokens | None = None
    max_context_tokens: _Tokens | None = None
    job_items_per_day: _Most | None = None
    job_items_per_month: _Most | None = None
    joules_per_day: _Joules | None = None
    joules_per_month: _Joules | None = None
    cost_per_day: _Cost | None = None
    cost_per_month: _Cost | None = None

    def limits(self) -> KeyLimits:
        return KeyLimits(**self.model_dump())


class KeyTerms(_Terms):
    """A key's terms, as the file and the API give them."""

    name: _Word = Field(description="its name in lists and in the log")
    owner: _Word | None = Field(
        default=None,
        description="whose jobs and files they are; several keys may have one owner;"
        " none: the key's alone",
    )
    tags: list[_Word] = Field(default=[], max_length=20, description="its groups")
    scopes: list[_Scope] = Field(
        default=[Scope.INFERENCE], min_length=1, description="what it is for"
    )
    models: list[_Pattern] = Field(
        default=[], max_length=200, description="models, `*` for anything; none: all"
    )
    networks: list[_Network] = Field(
        default=[], max_length=200, description="from where; none: from anywhere"
    )
    expires: _Instant | None = Field(
        default=None, description="when it ends; none: never"
    )
    limits: LimitTerms = Field(
        default=LimitTerms(), description="what it may use; none: no limit"
    )
    user_header: _Header | None = Field(
        default=None,
        description="of a reverse proxy's key: the header in which it names the user;"
        " each then has the key's terms and limits, and what is theirs is their own",
    )

    @model_validator(mode="after")
    def _no_power(self) -> Self:
        """Allow a proxy's key no admin scope: the proxy's header names the user."""
        if self.user_header and not _OF_USERS.issuperset(self.scopes):
            raise ValueError(
                "must have no scope but inference and jobs: it has a user_header"
            )
        return self

    def key(
        self, key: str, secrets: tuple[KeySecret, ...], source: KeySource
    ) -> ApiKey:
        networks: tuple[Network, ...] = tuple(self.networks)
        return ApiKey(
            id=key,
            name=self.name,
            secrets=secrets,
            source=source,
            owner=self.owner or "",
            tags=tuple(self.tags),
            scopes=frozenset(self.scopes),
            models=tuple(self.models),
            networks=networks,
            expires=self.expires.timestamp() if self.expires else None,
            limits=self.limits.limits(),
            user_header=self.user_header or "",
        )


class _Previous(_Terms):
    sha256: _Digest
    until: _Instant


class KeyEntry(KeyTerms):
    """One entry of `keys:`."""

    sha256: _Digest = Field(description="the key's digest: `inferops keys generate`")
    previous: list[_Previous] = Field(
        default=[], description="digests before a rotation: `sha256`, `until`"
    )

    def api_key(self) -> ApiKey:
        secrets = (
            KeySecret(self.sha256),
            *(
                KeySecret(each.sha256, until=each.until.timestamp())
                for each in self.previous
            ),
        )
        return self.key(f"file-{self.name}", secrets, KeySource.FILE)


class _Shared(_Terms):
    everyone: LimitTerms = LimitTerms()
    tags: dict[_Word, LimitTerms] = {}


class _File(_Terms):
    keys: list[KeyEntry] = Field(default=[], max_length=100_000)
    limits: _Shared = _Shared()


@dataclass(frozen=True, slots=True)
class KeysFile:
    """Keys, and the limits of tags and of everyone."""

    keys: tuple[ApiKey, ...] = ()
    everyone: KeyLimits = NO_LIMITS
    tags: Mapping[str, KeyLimits] = field(default_factory=dict)


def load_keys(path: Path) -> KeysFile:
    """Read the file. Raises ConfigError that lists every fault."""
    return parse_keys(document.read(path), source=path.name)


def parse_keys(text: str, *, source: str = "keys.yml") -> KeysFile:
    """Check the text of `keys.yml`. Raises ConfigError."""
    content = document.parse(text, source)
    file, faults = document.check(_File, {} if content is None else content)
    if file is None:
        raise document.rejected(source, faults)
    if repeated := [*_repeated(file)]:
        raise document.rejected(source, repeated)
    return KeysFile(
        tuple(entry.api_key() for entry in file.keys),
        file.limits.everyone.limits(),
        {tag: each.limits() for tag, each in file.limits.tags.items()},
    )


def _repeated(file: _File) -> list[YamlFault]:
    faults = []
    names: dict[str, int] = {}
    digests: dict[str, int] = {}
    for index, entry in enumerate(file.keys):
        if names.setdefault(entry.name, index) != index:
            what = f"must be unique, is also keys[{names[entry.name]}]'s"
            faults.append(YamlFault(("keys", index, "name"), what, entry.name))
        for digest in (entry.sha256, *(each.sha256 for each in entry.previous)):
            if digests.setdefault(digest, index) != index:
                what = f"must be unique, is also keys[{digests[digest]}]'s"
                faults.append(YamlFault(("keys", index, "sha256"), what))
    return faults
