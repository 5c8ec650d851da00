"""How a node's Ollama is asked where it lies behind TLS or a login."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path

_MOST_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class Access:
    """The labels `__ollama_*` of `nodes.yml`; files are read at each use.

    pin: SHA-256 of the certificate, in hexadecimal digits
    """

    username: str = ""
    password_file: str | None = None
    token_file: str | None = None
    ca_file: str | None = None
    pin: str | None = None

    def headers(self) -> dict[str, str]:
        """Return what shows who asks. Raises OSError, ValueError."""
        if self.token_file:
            return {"Authorization": f"Bearer {_secret(self.token_file)}"}
        if self.password_file:
            login = f"{self.username}:{_secret(self.password_file)}".encode()
            return {"Authorization": f"Basic {base64.b64encode(login).decode()}"}
        return {}


NO_ACCESS = Access()


def _secret(path: str) -> str:
    with Path(path).open(encoding="ascii") as file:
        return file.read(_MOST_BYTES).strip()
