"""How we show who we are to a service, and how it shows who it is to us."""

from __future__ import annotations

import base64
import ssl
from dataclasses import dataclass
from pathlib import Path

from router.config.files import read_text

__all__ = ["Access"]

_MOST_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Access:
    """The files that a service's login and certificate are checked with.

    token_file:    a bearer token
    password_file: the password of `username` for Basic authentication
    ca_file:       the certificates that its own must be signed by, in PEM; None
                   means those that this machine trusts
    Files are read at each use, so that a rotated secret needs no restart.
    """

    username: str = ""
    password_file: Path | None = None
    token_file: Path | None = None
    ca_file: Path | None = None

    def authorization(self) -> str | None:
        """Return the `Authorization` header's value. Raises OSError."""
        if self.token_file is not None:
            return f"Bearer {_secret(self.token_file)}"
        if self.password_file is not None:
            login = f"{self.username}:{_secret(self.password_file)}"
            return f"Basic {base64.b64encode(login.encode()).decode()}"
        return None

    def tls(self) -> ssl.SSLContext:
        """Return a context that checks the certificate and the name. Raises OSError."""
        try:
            return ssl.create_default_context(cafile=self.ca_file)
        except OSError as error:  # ssl's own error names no file
            raise OSError(f"{self.ca_file}: no certificates: {error}") from error


def _secret(path: Path) -> str:
    """Read the one line of a secret. Raises OSError without its text."""
    try:
        text = read_text(path, _MOST_BYTES).strip()
    except UnicodeDecodeError:
        text = ""
    if not text or not text.isascii() or not text.isprintable():
        raise OSError(f"{path}: must hold one line of printable ASCII")
    return text
