"""Flags and environment."""

from __future__ import annotations

import pytest

from exporters.__main__ import read
from exporters.addresses import Listen
from exporters.errors import SettingError
from exporters.gpu.selection import Selection
from exporters.gpu.settings import GpuSettings
from exporters.registry import COLLECTORS, Switch, enabled


def test_defaults() -> None:
    """Loopback, Ollama's own default, each collector by its own rule."""
    settings = read([], {})
    assert settings.listen == Listen("127.0.0.1", 21434)
    assert settings.sources.ollama_url == "http://127.0.0.1:11434"
    assert settings.switches == dict.fromkeys(("ollama", "nvml", "system"), Switch.AUTO)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        pytest.param([], "http://127.0.0.1:9999", id="environment"),
        pytest.param(["--ollama-url", "http://rig"], "http://rig:80", id="flag first"),
    ],
)
def test_which_ollama(flags, expected) -> None:
    """The flag goes before OLLAMA_HOST."""
    assert read(flags, {"OLLAMA_HOST": ":9999"}).sources.ollama_url == expected


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        pytest.param(
            ["--ollama-url", "rig"],
            "--ollama-url: must begin with http:// or https://, got 'rig'",
            id="Ollama",
        ),
        pytest.param(
            ["--node-exporter-url", "http://a/metrics"],
            "--node-exporter-url: must have no path, query or fragment, got "
            "'http://a/metrics'",
            id="node_exporter",
        ),
        pytest.param(
            ["--listen", "rig"], "--listen: must be host:port, got 'rig'", id="listen"
        ),
        pytest.param(
            ["--probe-targets", "/does/not/exist"],
            "--probe-targets: [Errno 2] No such file or directory: '/does/not/exist'",
            id="inventory",
        ),
        pytest.param(
            ["--gpu-tick", "0.01"],
            "--gpu-tick: must be 0.02 to 1.0 seconds, got 0.01",
            id="tick too short",
        ),
        pytest.param(
            ["--gpu-tick", "nan"],
            "--gpu-tick: must be 0.02 to 1.0 seconds, got nan",
            id="tick no number",
        ),
        pytest.param(
            ["--gpus", "0,rtx"],
            "--gpus: must be all, or indices or UUIDs (GPU-...) of nvidia-smi -L with"
            " commas between, got 'rtx'",
            id="no GPU",
        ),
    ],
)
def test_a_wrong_flag_is_named(flags, message) -> None:
    """With its value and what would be right."""
    with pytest.raises(SettingError) as caught:
        read(flags, {})
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        pytest.param(
            [f"--collector.{each.name}=on" for each in COLLECTORS],
            ["ollama", "nvml", "system"],
            id="all on",
        ),
        pytest.param(
            [f"--no-collector.{each.name}" for each in COLLECTORS], [], id="all off"
        ),
        pytest.param(
            ["--collector.system=on", "--collector.nvml=off", "--no-collector.ollama"],
            ["system"],
            id="one",
        ),
    ],
)
def test_collectors_are_switched(flags, expected) -> None:
    """Each collector of the table has its flags."""
    assert _enabled(flags) == expected


def test_auto_asks_the_entry(monkeypatch) -> None:
    """On Linux node_exporter speaks for the machine."""
    monkeypatch.setattr("sys.platform", "linux")
    flags = ["--collector.nvml=off"]
    assert _enabled(flags) == ["ollama"]
    monkeypatch.setattr("sys.platform", "darwin")
    assert _enabled(flags) == ["ollama", "system"]


def _enabled(flags: list[str]) -> list[str]:
    settings = read(flags, {})
    return list(enabled(settings.switches, settings.sources))


def test_what_may_be_chosen_of_gpus() -> None:
    """Processes are off unless asked for."""
    assert read([], {}).sources.gpu == GpuSettings()
    settings = read(["--gpu-tick", "0.05", "--gpu-processes"], {})
    assert settings.sources.gpu == GpuSettings(tick_seconds=0.05, by_process=True)
    assert settings.sources.gpu.gpus is None  # as its Ollama sees them
    chosen = read(["--gpus", "1,GPU-0a"], {}).sources.gpu.gpus
    assert chosen == Selection(("1", "GPU-0a"), "--gpus")
