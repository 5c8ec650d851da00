"""A real Ollama on loopback with models of its own; needs `ollama` on PATH."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
import requests

from tests.harness.counting_model import MODELFILE, Shape, write_counting_model
from tests.harness.poll import until
from tests.harness.ports import free_port
from tests.harness.process import Process
from tests.harness.stopping import Stopping

MODEL = "counting"


def ollama_binary() -> str | None:
    """Find Ollama's program; None where there is none."""
    return shutil.which("ollama")


class RealOllama(Stopping):
    """`ollama serve` on a free port, with the counting models it shall have.

    models: name to shape; made on first use and kept in `tmp / "gguf"`, so one
            `cache` folder may be shared by several
    settings: more of Ollama's own variables
    """

    def __init__(
        self,
        tmp: Path,
        *,
        models: Mapping[str, Shape] | None = None,
        slots: int = 1,
        cache: Path | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        binary = ollama_binary()
        assert binary is not None, "no ollama on PATH"
        self._binary = binary
        self._tmp = tmp
        self._cache = cache or tmp / "gguf"
        self._models = {MODEL: Shape()} if models is None else dict(models)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = tmp / "ollama.log"
        self._env = self._environment(slots) | dict(settings or {})
        tmp.mkdir(parents=True, exist_ok=True)
        self.process = self._serve()
        try:
            self._until_ready()
            self._create_models()
        except BaseException:
            self.stop()
            raise

    def _environment(self, slots: int) -> dict[str, str]:
        return {
            "HOME": str(self._tmp / "home"),
            "OLLAMA_HOST": f"127.0.0.1:{self.port}",
            "OLLAMA_MODELS": str(self._tmp / "models"),
            "OLLAMA_NUM_PARALLEL": str(slots),
            "OLLAMA_NOPRUNE": "1",
        }

    def _serve(self) -> Process:
        (self._tmp / "home").mkdir(parents=True, exist_ok=True)
        return Process([self._binary, "serve"], log=self.log, env=self._env)

    def _until_ready(self) -> None:
        until(
            lambda: requests.get(f"{self.url}/api/version", timeout=2).ok,
            f"ollama serve answers on {self.url}",
        )

    def _create_models(self) -> None:
        for name, shape in self._models.items():
            weights = write_counting_model(self._cache, shape)
            self.create(name, MODELFILE.format(gguf=weights.resolve()))

    def create(self, name: str, text: str) -> None:
        """Create a model from a Modelfile's text."""
        modelfile = self._tmp / f"{name.replace(':', '-')}.Modelfile"
        modelfile.write_text(text)
        subprocess.run(
            [self._binary, "create", name, "-f", modelfile],
            env={**os.environ, **self._env},
            check=True,
            capture_output=True,
            timeout=120,
        )

    def _family(self) -> list[psutil.Process]:
        """`ollama serve` and its runners."""
        try:
            parent = psutil.Process(self.process.pid)
            return [parent, *parent.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def kill_runners(self) -> int:
        """SIGKILL to the runners alone; tells how many there were."""
        return _end(self._family()[1:], signal.SIGKILL)

    def kill(self) -> None:
        """SIGKILL to `ollama serve` and its runners, as a node that dies."""
        _end(self._family(), signal.SIGKILL)
        self.process.kill()

    def freeze(self) -> None:
        """Stop all of it: it takes connections and says nothing, a black hole."""
        family = self._family()
        for each in family:
            each.suspend()
        # The signal is taken thread by thread: until all have, one may still answer.
        until(lambda: all(map(_stopped, family)), "every thread is stopped")

    def thaw(self) -> None:
        for each in self._family():
            each.resume()

    def pin(self, core: int) -> None:
        """Run on one core, as a machine of its own does: not on the time of others."""
        for each in self._family():
            each.cpu_affinity([core])

    def restart(self) -> None:
        """Serve again on the same port, with the models that are there."""
        self.process = self._serve()
        self._until_ready()

    def stop(self) -> None:
        family = self._family()
        self.process.stop()
        _end(family, signal.SIGKILL)


@contextlib.contextmanager
def real_nodes(
    folder: Path, names: Sequence[str] = ("one", "two"), **more: Any
) -> Iterator[dict[str, RealOllama]]:
    """Run nodes by name that share the files of their models; `more`: RealOllama's."""
    with contextlib.ExitStack() as stack:
        yield {
            name: stack.enter_context(
                RealOllama(folder / name, cache=folder / "gguf", **more)
            )
            for name in names
        }


def _stopped(process: psutil.Process) -> bool:
    """Whether each of its threads is (proc(5), the third field of stat)."""
    tasks = Path(f"/proc/{process.pid}/task").glob("*/stat")
    return all(task.read_text().rpartition(")")[2].split()[0] == "T" for task in tasks)


def _end(processes: list[psutil.Process], number: int) -> int:
    """Signal each that is still itself (psutil compares the start time)."""
    hit = 0
    for each in processes:
        try:
            each.send_signal(number)
        except psutil.NoSuchProcess:
            continue
        hit += 1
    psutil.wait_procs([each for each in processes if each.is_running()], timeout=10)
    return hit
