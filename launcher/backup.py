"""A router's state as one tar, taken while it runs; and back again.

`python -m launcher.backup save >FILE`, `python -m launcher.backup restore <FILE`, with
the state's folder as the last argument where it is not the container's. A database is
copied by SQLite itself, so that what is written meanwhile does no harm.
"""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO

STATE = Path("/var/lib/inferops")
_SQLITE = b"SQLite format 3\0"
_BESIDE = ("-wal", "-shm", "-journal")  # a database's; its copy needs none


def save(state: Path, out: IO[bytes]) -> None:
    """Write every file below `state`, each whole."""
    found = sorted(state.rglob("*"))
    there = [path for path in found if not path.name.endswith(_BESIDE)]
    with (
        tempfile.TemporaryDirectory(dir=state, prefix=".backup-") as scratch,
        tarfile.open(fileobj=out, mode="w|") as tar,
    ):
        for path in filter(Path.is_file, there):
            # A file that is replaced or ends meanwhile is a file of the past.
            with contextlib.suppress(FileNotFoundError):
                copy = _database(path, Path(scratch)) if _is_database(path) else path
                tar.add(copy, arcname=str(path.relative_to(state)))


def restore(state: Path, source: IO[bytes]) -> None:
    """Put the files back; raises FileExistsError where there is other state."""
    there = [
        path
        for path in state.iterdir()
        if not path.name.endswith(".last-good.yml")  # of any start
    ]
    if there:
        raise FileExistsError(f"{state}: has state already: {there[0].name}")
    with tarfile.open(fileobj=source, mode="r|") as tar:
        for member in tar:
            _put(member, tar, state)


def _put(member: tarfile.TarInfo, tar: tarfile.TarFile, state: Path) -> None:
    """Extract a plain file below `state`; raises OSError for anything else."""
    place = (state / member.name).resolve()
    content = tar.extractfile(member) if member.isfile() else None
    if content is None or not place.is_relative_to(state.resolve()):
        raise OSError(f"{member.name}: not a file of a backup")
    place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with place.open("xb") as file:
        place.chmod(0o600)
        shutil.copyfileobj(content, file)


def _is_database(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_SQLITE)) == _SQLITE


def _database(path: Path, scratch: Path) -> Path:
    copy = scratch / path.name
    with (
        contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as live,
        contextlib.closing(sqlite3.connect(copy)) as target,
    ):
        live.backup(target)
    return copy


def main(argv: Sequence[str]) -> int:
    action, *folder = argv
    state = Path(*folder) if folder else STATE
    try:
        if action == "save":
            save(state, sys.stdout.buffer)
        else:
            restore(state, sys.stdin.buffer)
    except (OSError, tarfile.TarError, sqlite3.Error) as error:
        print(f"backup: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
