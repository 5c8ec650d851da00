"""Finds the key that a request carries; pure.

`Authorization: Bearer` (OpenAI's, most others'), `x-api-key` (Anthropic's), the
password of `Authorization: Basic`, and a path `/key/KEY/…`: the `ollama` command sends
no header of its own, and refuses a URL with a login.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from router.text.api_key import PREFIX

PATH = f"/key/{PREFIX}"


def credentials(environ: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the keys that a request carries, the likeliest first."""
    found = []
    scheme, _, given = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
    given = given.strip()
    if given and scheme.lower() == "bearer":
        found.append(given)
    elif given and scheme.lower() == "basic":
        found += _of_login(given)
    if key := environ.get("HTTP_X_API_KEY", "").strip():
        found.append(key)
    return tuple(found)


def _of_login(given: str) -> list[str]:
    """Return the password of a basic login; the name if it has no password."""
    try:
        login = base64.b64decode(given, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return []
    name, _, password = login.partition(":")
    return [password or name] if password or name else []


def split_path(path: str) -> tuple[str, str]:
    """Split a path that begins with `PATH` into the key and the rest."""
    key, _, rest = path.removeprefix("/key/").partition("/")
    return key, f"/{rest}"
