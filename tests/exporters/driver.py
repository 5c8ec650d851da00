"""A driver that is upgraded, unloaded or refuses: NVML compiled from fake_driver.c."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import requests

from tests.exporters.exposition import values
from tests.harness.poll import until
from tests.harness.ports import free_port
from tests.harness.process import Process

SOURCE = Path(__file__).parent / "fake_driver.c"
UUID = "GPU-00000000-0000-0000-0000-000000000001"


class Driver:
    """Its two halves: the kernel's module, and the library beside it."""

    def __init__(self, folder: Path) -> None:
        if shutil.which("cc") is None:
            pytest.skip("cc is not on PATH")
        self.folder = folder
        self._module = folder / "module"
        self.env = {"FAKE_DRIVER": str(self._module), "LD_LIBRARY_PATH": str(folder)}

    def load(self, version: str) -> None:
        """Load the module of a version; a word of fake_driver.c has calls fail."""
        written = self._module.with_suffix(".new")
        written.write_text(version)
        written.replace(self._module)

    def unload(self) -> None:
        self._module.unlink()

    def install(self, version: str, *, keep: bool = False) -> None:
        """Put a version's library in place, as packages do; keep the one before."""
        made = self.folder / f"libnvidia-ml.so.{version}"
        argv = ["cc", "-shared", "-fPIC", f'-DVERSION="{version}"']
        subprocess.run([*argv, "-o", made, SOURCE], check=True)
        link = self.folder / "libnvidia-ml.so.1"
        before = link.resolve() if link.exists() else made
        (new := self.folder / "new").symlink_to(made.name)
        new.replace(link)
        if before != made and not keep:
            before.unlink()


@contextlib.contextmanager
def exporting(
    driver: Driver, *flags: str, env: dict[str, str], wrapped: Sequence[str] = ()
) -> Iterator[str]:
    """Run the exporter on a driver; gives its address.

    wrapped: a command that runs the one behind it
    """
    where = f"127.0.0.1:{free_port()}"
    argv = [*wrapped, sys.executable, "-m", "exporters", "--listen", where]
    argv += ["--no-collector.ollama", "--collector.nvml=on", *flags]
    log = driver.folder / "exporter.log"
    with Process(argv, log=log, env={**os.environ, **driver.env, **env}):
        until(lambda: scrape(f"http://{where}"), "it serves", seconds=30)
        yield f"http://{where}"


def scrape(url: str) -> dict[str, float]:
    return values(requests.get(f"{url}/metrics", timeout=10).text)
