"""Authentication towards services and nodes: the header that is sent, and TLS."""

from __future__ import annotations

import base64
import hashlib
import hmac
import ssl
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

from router.config.files import read_text
from router.model import Access

_MOST_BYTES = 64 * 1024


def authorization(access: Access) -> str | None:
    """Return the `Authorization` header's value. Raises OSError.

    The file is read at each use, so that a rotated secret needs no restart.
    """
    if access.token_file is not None:
        return f"Bearer {_secret(access.token_file)}"
    if access.password_file is not None:
        login = f"{access.username}:{_secret(access.password_file)}"
        return f"Basic {base64.b64encode(login.encode()).decode()}"
    return None


def secured(
    plain: Any,
    host: str,
    access: Access,
    kind: Callable[[int], ssl.SSLContext] = ssl.SSLContext,
) -> ssl.SSLSocket:
    """Return a connected socket with TLS; it is closed if the handshake fails.

    kind: class of the TLS context: the standard library's, or gevent's
    Raises OSError.
    """
    try:
        peer = _tls_context(access, kind).wrap_socket(plain, server_hostname=host)
    except BaseException:
        plain.close()
        raise
    try:
        _check_pin(access, peer)
    except OSError:
        peer.close()
        raise
    return peer


def _tls_context(
    access: Access, kind: Callable[[int], ssl.SSLContext]
) -> ssl.SSLContext:
    """Return a context that checks the certificate and the name. Raises OSError.

    With a pin it checks neither: `_check_pin` does, once the peer has shown its own.
    """
    file = access.ca_file
    try:
        changed = file.stat().st_mtime_ns if file else 0
        return _context(kind, file, changed, pinned=access.pin is not None)
    except OSError as error:  # ssl's own error names no file
        raise OSError(f"{file}: no certificates: {error}") from error


@lru_cache(maxsize=256)  # to load a machine's certificates takes 10 ms
def _context(
    kind: Callable[[int], ssl.SSLContext],
    file: Path | None,
    changed: int,
    *,
    pinned: bool,
) -> ssl.SSLContext:
    del changed  # another file under the same name is another context
    context = kind(ssl.PROTOCOL_TLS_CLIENT)
    if pinned:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif file:
        context.load_verify_locations(file)
    else:
        context.load_default_certs()
    return context


def _check_pin(access: Access, peer: ssl.SSLSocket) -> None:
    """Compare the certificate that was shown with the pinned one. Raises OSError."""
    if access.pin is None:
        return
    shown = hashlib.sha256(peer.getpeercert(binary_form=True) or b"").hexdigest()
    if not hmac.compare_digest(shown, access.pin):
        raise ssl.SSLError(f"the certificate is not the pinned one, but sha256:{shown}")


def _secret(path: Path) -> str:
    """Read the one line of a secret. Raises OSError without its text."""
    try:
        text = read_text(path, _MOST_BYTES).strip()
    except UnicodeDecodeError:
        text = ""
    if not text or not text.isascii() or not text.isprintable():
        raise OSError(f"{path}: must hold one line of printable ASCII")
    return text
