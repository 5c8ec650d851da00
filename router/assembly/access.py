"""Builds API keys, and what says who needs none."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from router.access.file import KeysFile, parse_keys
from router.access.principal import ALL_SCOPES, Principal, operator
from router.access.service import KeyService
from router.access.store import KeyStore
from router.config.files import read_text
from router.config.reload import FileFormat, Watched
from router.config.settings import Config
from router.errors import UnavailableError
from router.logs.events import get_logger
from router.runtime.threads import DISK, FILES
from router.text.api_key import Scope
from router.web.authentication import Operators
from router.web.bearer import same_secret
from router.web.local_user import local_peer

Secret = Callable[[], str | None]
_TOKEN_SECONDS = 1.0
_SCOPES = {"metrics": frozenset({Scope.METRICS})}  # of tokens that are for less

AccessFiles = tuple[Watched[KeysFile], ...]


def build_keys(
    first: Config, settings: Callable[[], Config]
) -> tuple[KeyService, AccessFiles]:
    """Build the keys, and the file to watch where one is configured.

    Raises ConfigError where the file is faulty.
    """
    path = first.access.keys_file
    files: AccessFiles = ()
    if path is not None:
        rules = FileFormat(partial(parse_keys, source=path.name))
        log = get_logger("config")
        files = (Watched(path, rules, log, now=time.time(), offload=FILES),)
    keys = KeyService(
        KeyStore(first.state.directory),
        of_file=lambda: files[0].value if files else None,
        mode=lambda: settings().access.keys,
        clock=time.time,
    )
    for file in files:
        file.listen(lambda *_: keys.apply())
    return keys, files


def operators(
    tokens: Mapping[str, Secret], trusts: Callable[[Mapping[str, Any]], bool]
) -> Operators:
    """Say who needs no key. `tokens`: what reads each, by its name."""
    read = {name: _Remembered(secret) for name, secret in tokens.items()}

    def by_token(given: str) -> Principal | None:
        for name, secret in read.items():
            token = secret()
            if token and same_secret(given, token):
                return operator(f"token:{name}", _SCOPES.get(name, ALL_SCOPES))
        return None

    def is_local(environ: Mapping[str, Any]) -> bool:
        if read["admin"]() is not None or not trusts(environ):
            return False
        return DISK(lambda: local_peer(environ)).trusted

    return Operators(by_token, is_local)


def token_reader(path: Path | None) -> Secret:
    """Read a token at each use, so that a rotated one needs no restart.

    A token that is configured and cannot be read opens nothing: UnavailableError.
    """

    def read() -> str | None:
        if path is None:
            return None
        try:
            token = DISK(lambda: read_text(path)).strip()
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or "it is not text"
            raise UnavailableError(
                f"token file {path.name!r} cannot be read: {why}"
            ) from error
        if not token:
            raise UnavailableError(f"token file {path.name!r} is empty")
        return token

    return read


class _Remembered:
    """A token's file, read once a second at most: anybody may send a wrong key."""

    def __init__(self, read: Secret) -> None:
        self._read = read
        self._until = 0.0
        self._token: str | None = None

    def __call__(self) -> str | None:
        """Return the token; raises UnavailableError where it cannot be read."""
        now = time.monotonic()
        if now >= self._until:
            self._token = self._read()
            self._until = now + _TOKEN_SECONDS
        return self._token
