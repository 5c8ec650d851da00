"""A limit of memory around a process and all that it starts, as a container has it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.harness.poll import until

_V1 = Path("/sys/fs/cgroup/memory")
_V2 = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class MemoryCgroup:
    """`inside` is what an argument list begins with to run within it."""

    folder: Path
    v2: bool

    @property
    def inside(self) -> list[str]:
        procs = self.folder / "cgroup.procs"
        return ["sh", "-c", f'echo $$ >{procs} && exec "$@"', "sh"]

    @property
    def peak_bytes(self) -> int:
        name = "memory.peak" if self.v2 else "memory.max_usage_in_bytes"
        return int((self.folder / name).read_text())

    @property
    def kills(self) -> int:
        """How many processes the kernel ended because there was no memory left."""
        name = "memory.events" if self.v2 else "memory.oom_control"
        lines = (self.folder / name).read_text().splitlines()
        return int(dict(line.split() for line in lines).get("oom_kill", 0))


class NoCgroupError(Exception):
    """Why none can be made here."""


@contextlib.contextmanager
def memory_cgroup(limit_bytes: int) -> Iterator[MemoryCgroup]:
    """Make one, and remove it. Raises NoCgroupError."""
    v2 = not _V1.is_dir()
    folder = (_V2 if v2 else _V1) / f"inferops-test-{os.getpid()}"
    limit = "memory.max" if v2 else "memory.limit_in_bytes"
    try:
        folder.mkdir()
    except OSError as error:
        raise NoCgroupError(f"no memory cgroup can be made: {error}") from error
    try:
        (folder / limit).write_text(str(limit_bytes))
        swap = "memory.swap.max" if v2 else "memory.memsw.limit_in_bytes"
        with contextlib.suppress(OSError):  # where swap is not counted, there is none
            (folder / swap).write_text("0" if v2 else str(limit_bytes))
        yield MemoryCgroup(folder, v2)
    except OSError as error:
        raise NoCgroupError(f"the memory cgroup takes no limit: {error}") from error
    finally:
        until(lambda: _removed(folder), f"{folder} is empty")


def _removed(folder: Path) -> bool:
    """Remove it; False while a process that was ended is still in it."""
    with contextlib.suppress(OSError):
        folder.rmdir()
    return not folder.exists()
