"""Files that are whole or absent, and the secrets among them."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from pathlib import Path

from router.runtime.whole_file import write_whole

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


def write(
    path: Path,
    text: str,
    *,
    mode: int = 0o600,
    own: Callable[[Path], None] | None = None,
) -> None:
    """Put a whole file in place, or none; private from its first byte on.

    own: gives the file to its owner before anybody can see it under its name
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_whole(path, text.encode(), mode=mode, own=own)


def differ(folder: Path, wanted: Mapping[str, str]) -> bool:
    """Tell whether `folder` holds anything but exactly these texts."""
    folder.mkdir(parents=True, exist_ok=True)
    gone, changed = _differences(_there(folder), wanted)
    return bool(gone or changed)


def publish(
    folder: Path,
    wanted: Mapping[str, str],
    *,
    mode: int,
    own: Callable[[Path], None] | None = None,
) -> bool:
    """Make `folder` hold exactly these texts, by relative path; tell of a change.

    A file with the right text stays untouched, so that nobody reloads it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    there = _there(folder)
    gone, changed = _differences(there, wanted)
    for name in changed:
        _readable_folders(folder, (folder / name).parent, mode)
        write(folder / name, wanted[name], mode=mode, own=own)
    for name in gone:
        there[name].unlink()
    return bool(gone or changed)


def _there(folder: Path) -> dict[str, Path]:
    return {
        str(path.relative_to(folder)): path
        for path in folder.rglob("*")
        if path.is_file()
    }


def _differences(
    there: Mapping[str, Path], wanted: Mapping[str, str]
) -> tuple[list[str], list[str]]:
    changed = [
        name
        for name, text in wanted.items()
        if name not in there or there[name].read_text(encoding="utf-8") != text
    ]
    return sorted(there.keys() - wanted.keys()), changed


def _readable_folders(top: Path, folder: Path, mode: int) -> None:
    """Make the folders, for whom `mode` lets read the files, under any umask."""
    if folder.is_dir():
        return
    _readable_folders(top, folder.parent, mode)
    folder.mkdir()
    folder.chmod(0o755 if mode & 0o004 else 0o700)
