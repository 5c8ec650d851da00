"""The keys in force, from file and store, and changes to stored keys."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import replace

from router.access.file import KeysFile, KeyTerms
from router.access.keys import ApiKey, KeyRing, KeySecret, KeySource, KeyState
from router.access.limits import LimitRules
from router.access.principal import Principal
from router.access.store import KeyStore
from router.errors import ConflictError, NotFoundError, StateError, UnavailableError
from router.logs.events import get_logger
from router.text.api_key import digest_of, new_secret, shown

log = get_logger("keys")


class KeyService:
    """Keeps the keys in force. Changes wait for the disk; they raise StateError.

    of_file: returns the file's keys; None where no file is configured
    mode:    returns the setting `access.keys`
    clock:   unix seconds
    """

    def __init__(
        self,
        store: KeyStore,
        of_file: Callable[[], KeysFile | None],
        mode: Callable[[], str],
        clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._of_file = of_file
        self._mode = mode
        self._clock = clock
        self._stored: tuple[ApiKey, ...] = ()
        self.fault: str | None = None
        self.ring = KeyRing()
        self.limits = LimitRules({}, {})
        self.required = True
        self.load()

    def load(self) -> None:
        """Read the stored keys; if that fails, none of them works."""
        try:
            self._stored = self._store.load()
            self.fault = None
        except StateError as error:
            log.error("keys_not_read", fault=str(error))  # noqa: TRY400 - no traceback
            self.fault = str(error)
        self.apply()

    def apply(self) -> None:
        """Apply the current file and settings."""
        of_file = self._of_file()
        shared = of_file or KeysFile()
        self.ring = KeyRing.of((*shared.keys, *self._stored))
        self.limits = LimitRules(
            {each.id: each.limits for each in self.ring if each.limits},
            shared.tags,
            shared.everyone,
        )
        exist = of_file is not None or bool(self._stored) or self.fault is not None
        mode = self._mode()
        self.required = mode == "required" or (mode == "auto" and exist)

    def principal(self, principal: str) -> Principal:
        """Return the principal with an id; one without a key has no limits of its own.

        A user gets the terms of the first key that has a `user_header`.
        """
        kind, _, name = principal.partition(":")
        for key in self.ring:
            if kind == "user" and key.user_header:
                return key.user(name)
            if kind == "key" and key.id == name:
                return key.principal()
        return Principal(principal, principal)

    def get(self, key: str) -> ApiKey:
        """Return a key by its id or its name. Raises NotFoundError, ConflictError."""
        found = [each for each in self.ring if each.id == key]
        found = found or [each for each in self.ring if each.name == key]
        if len(found) > 1:
            now = self._clock()
            found = [each for each in found if each.state(now) is KeyState.ACTIVE]
        if len(found) > 1:
            raise ConflictError(f"several keys are named {key!r}: give its id")
        if not found:
            raise NotFoundError(f"no key {key!r}")
        return found[0]

    def create(self, terms: KeyTerms) -> tuple[ApiKey, str]:
        """Create a key; its secret is returned only here.

        Raises ConflictError if an active key has the name.
        """
        now = self._clock()
        for each in self.ring:
            if each.name == terms.name and each.state(now) is KeyState.ACTIVE:
                raise ConflictError(f"there is a key {terms.name!r}: rotate or revoke")
        secret, kept = _fresh()
        made = terms.key(f"k-{secrets.token_hex(6)}", (kept,), KeySource.STORE)
        made = replace(made, created=now)
        self._save(made)
        return made, secret

    def rotate(self, key: str, overlap_seconds: float) -> tuple[ApiKey, str]:
        """Give a key a new secret; the old one works for the overlap."""
        found = self._of_store(key)
        now = self._clock()
        if found.state(now) is not KeyState.ACTIVE:
            raise ConflictError(f"key {key!r} is {found.state(now)}")
        secret, kept = _fresh()
        made = found.without_old(now).rotated(kept, now + overlap_seconds)
        self._save(made.without_old(now))
        return made, secret

    def revoke(self, key: str) -> ApiKey:
        """Revoke a key at once; it stays in lists."""
        found = self._of_store(key)
        if found.revoked is not None:
            return found
        made = replace(found, revoked=self._clock())
        self._save(made)
        return made

    def close(self) -> None:
        self._store.close()

    def _of_store(self, key: str) -> ApiKey:
        found = self.get(key)
        if found.source is KeySource.FILE:
            raise ConflictError(f"key {key!r} is changed in its file, access.keys_file")
        return found

    def _save(self, key: ApiKey) -> None:
        if self.fault is not None:
            self.load()
        try:
            self._store.save([key])
        except StateError as error:
            raise UnavailableError(f"nothing was changed: {error}") from error
        others = [each for each in self._stored if each.id != key.id]
        self._stored = (*others, key)
        self.apply()


def _fresh() -> tuple[str, KeySecret]:
    secret = new_secret()
    return secret, KeySecret(digest_of(secret), shown(secret))
