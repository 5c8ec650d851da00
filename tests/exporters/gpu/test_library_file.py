"""When the exporter becomes a new process for a new NVML."""

from __future__ import annotations

import sys

import pytest

from exporters.gpu import library_file
from exporters.gpu.library_file import LibraryFile
from tests.exporters.driver import Driver

OLD, NEW = (1, 10, 100, 1), (1, 11, 100, 2)


@pytest.mark.parametrize(
    ("loaded", "found", "restarts"),
    [
        pytest.param(OLD, OLD, 0, id="the same"),
        pytest.param(OLD, NEW, 1, id="another"),
        pytest.param(OLD, (1, 10, 101, 1), 1, id="another in the same place"),
        pytest.param(OLD, None, 0, id="none, in the middle of an upgrade"),
        pytest.param(None, NEW, 0, id="none was loaded: it still can be"),
    ],
)
def test_a_restart_must_bring_another_library(loaded, found, restarts) -> None:
    """Else it would mend nothing, and be done for ever."""
    done: list[None] = []
    file = LibraryFile(
        lambda: done.append(None),
        mapped=lambda: loaded,
        of_a_new_process=lambda: found,
    )
    file.renew()
    assert len(done) == restarts


def test_without_a_library_nothing_is_known(monkeypatch) -> None:
    """A process that has none, or cannot start another, is left as it is."""
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    assert library_file.of_a_new_process() is None


def test_the_file_that_is_loaded(tmp_path, monkeypatch) -> None:
    """A new process reports the file that the linker finds for it then."""
    driver = Driver(tmp_path)
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    driver.install("550.1")
    first = library_file.of_a_new_process()
    assert first is not None
    assert first == library_file.of_a_new_process()
    assert first[1] == (tmp_path / "libnvidia-ml.so.550.1").stat().st_ino
    driver.install("560.2", keep=True)
    assert library_file.of_a_new_process() != first
