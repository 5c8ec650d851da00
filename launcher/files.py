"""Files that are whole or absent, and the secrets among them."""

from __future__ import annotations

import contextlib
import os
import secrets
import tempfile
from pathlib import Path

PRIVATE = 0o077  # the umask: what is written here is for its owner alone


def private_folder(folder: Path) -> None:
    """Make a folder that only its owner can enter, or make the one there so."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder.chmod(0o700)


def ensure_token(path: Path) -> None:
    """Make a random secret, readable by its owner only, unless the file is there.

    Touched in any case: of two starts, the command line takes the newer one's.
    """
    if not path.exists():
        write(path, f"{secrets.token_urlsafe(32)}\n")
    path.touch()


def write(path: Path, text: str, *, mode: int = 0o600) -> None:
    """Put a whole file in place, or none; private from its first byte on."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as out:
            out.write(text)
        Path(name).chmod(mode)
        Path(name).replace(path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            Path(name).unlink()
        raise
