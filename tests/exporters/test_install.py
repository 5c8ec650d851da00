"""The installer, for real as far as a scratch folder goes; nothing starts here.

ssh and docker are recorders in this file, named so: what they are told is compared.
"""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from exporters import VERSION
from tests.exporters.driver import Driver, exporting, scrape
from tests.exporters.exposition import values
from tests.harness.poll import until
from tests.harness.ports import free_port
from tests.harness.process import ROOT, Process

SCRIPT = ROOT / "exporters/install.sh"
SETTINGS = "etc/default/inferops-exporter"
UNIT = "etc/systemd/system/inferops-exporter.service"
OURS = ("etc/default", "etc/systemd/system", "opt")


def run(
    *arguments: str, path: Path | None = None, code: int = 0
) -> subprocess.CompletedProcess[str]:
    """Run the installer; `path` goes first on PATH."""
    env = dict(os.environ)
    if path:
        env["PATH"] = f"{path}:{env['PATH']}"
    done = subprocess.run(
        ["sh", str(SCRIPT), *arguments],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        env=env,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done


def tree(root: Path) -> dict[str, tuple[int, float]]:
    """Return size and time of each file that was written."""
    return {
        str(path.relative_to(root)): (path.stat().st_size, path.stat().st_mtime)
        for path in root.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> tuple[Path, int]:
    """An installation below a scratch folder, and the port it is told."""
    asked = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    wheels = tmp_path_factory.mktemp("wheels")
    found = subprocess.run(
        [*asked, "--dest", str(wheels), "prometheus-client"],
        capture_output=True,
        timeout=60,
        check=False,
    )
    if found.returncode:
        pytest.skip("no package registry answers")
    root, port = tmp_path_factory.mktemp("node"), free_port()
    where = f"127.0.0.1:{port}"
    run("--root", str(root), "--listen", where, "--", "--collector.nvml=off")
    return root, port


@pytest.mark.e2e
def test_what_was_installed_runs_as_the_unit_says(installed, tmp_path) -> None:
    """Its own packages, its own copy of the code, the flags from its settings."""
    root, port = installed
    flags = _settings(root)["INFEROPS_EXPORTER_FLAGS"].split()
    assert flags == [f"--listen=127.0.0.1:{port}", "--collector.nvml=off"]
    command = _unit(root)["ExecStart"].split()
    assert command[1:] == ["-m", "exporters", "$INFEROPS_EXPORTER_FLAGS"]
    home = root / _unit(root)["WorkingDirectory"].lstrip("/")
    argv = [str(root / command[0].lstrip("/")), *command[1:3], *flags]
    url = f"http://127.0.0.1:{port}"
    clean = {"PYTHONPATH": "", "OLLAMA_HOST": "127.0.0.1:1"}
    with Process(argv, log=tmp_path / "log", env=clean, cwd=home):
        until(lambda: _get(f"{url}/healthz"), "it serves", seconds=30)
        found = values(requests.get(f"{url}/metrics", timeout=10).text)
    assert found["inferops_ollama_up"] == 0
    assert found[f"inferops_exporter_build_info{{version={VERSION}}}"] == 1


@pytest.mark.e2e
def test_again_changes_nothing(installed) -> None:
    """Not a file is touched, and what was chosen is kept."""
    root, _ = installed
    before = tree(root)
    run("--root", str(root))
    assert tree(root) == before


@pytest.mark.e2e
def test_new_flags_are_taken_over(installed) -> None:
    """Only the settings differ afterwards."""
    root, port = installed
    before = tree(root)
    run("--root", str(root), "--ollama-url", "http://127.0.0.1:9")
    flags = _settings(root)["INFEROPS_EXPORTER_FLAGS"]
    assert flags.endswith(" --ollama-url=http://127.0.0.1:9")
    after = tree(root)
    assert {name for name in after if after[name] != before[name]} == {SETTINGS}
    where = f"127.0.0.1:{port}"  # as it was, for the others
    run("--root", str(root), "--listen", where, "--", "--collector.nvml=off")


@pytest.mark.e2e
def test_the_unit_is_valid_and_hardened(installed, tmp_path) -> None:
    """By systemd's own judgement, with its paths moved to where they are here."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not on PATH")
    root, _ = installed
    unit = tmp_path / "inferops-exporter.service"
    text = (root / UNIT).read_text()
    for folder in ("/opt/", "/etc/default/"):
        text = text.replace(folder, f"{root}{folder}")
    unit.write_text(text)
    verified = _analyze("verify", str(unit))
    # Of this file; a machine may have faults in units of its own.
    faults = [line for line in verified.splitlines() if "inferops" in line]
    assert faults == []
    verdict = _analyze("security", "--offline=true", str(unit)).splitlines()[-1]
    found = re.search(r"exposure level .*: ([\d.]+)", verdict)
    assert found is not None, verdict
    assert float(found[1]) <= 2.0


@pytest.fixture
def node() -> Iterator[Path]:
    """A machine on which the packages are there already, so that none is fetched.

    Not below pytest's own folder, which other users may not enter.
    """
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        root.chmod(0o755)
        for name in ("inferops-exporter", "second"):
            venv = root / f"opt/{name}/venv"
            (venv / "bin").mkdir(parents=True)
            (venv / "bin/python").symlink_to(sys.executable)
            shutil.copy(ROOT / "exporters/requirements.lock", venv)
        (root / "dev").mkdir()
        (root / "proc/driver/nvidia").mkdir(parents=True)
        yield root


def device(node: Path, name: str, mode: int, group: int = 0) -> Path:
    """A card's device, as far as its owner and mode go."""
    path = node / "dev" / name
    path.touch()
    try:
        os.chown(path, -1, group)
    except PermissionError:
        pytest.skip("only root may give a file to a group")
    path.chmod(mode)
    return path


VIDEO = 44  # of Debian's and Ubuntu's base system; other systems have other numbers


@pytest.mark.parametrize(
    ("devices", "params", "expected"),
    [
        pytest.param({}, "", None, id="no card"),
        pytest.param({"nvidiactl": (0o666, 0)}, "", None, id="open to everybody"),
        pytest.param(
            {"nvidiactl": (0o660, VIDEO), "nvidia0": (0o660, VIDEO)},
            "",
            "video",
            id="open to a group",
        ),
        pytest.param(
            {"nvidiactl": (0o666, 0), "nvidia1": (0o660, VIDEO)},
            "",
            "video",
            id="one card of two",
        ),
        pytest.param({"nvidiactl": (0o600, VIDEO)}, "", None, id="open to root alone"),
        pytest.param(
            {}, "DeviceFileGID: 44\nDeviceFileMode: 432\n", "video", id="not made yet"
        ),
        pytest.param(
            {"nvidiactl": (0o666, 0)},
            "DeviceFileGID: 44\nDeviceFileMode: 432\n",
            None,
            id="made otherwise than the driver says",
        ),
        pytest.param(
            {}, "DeviceFileGID: 61234\nDeviceFileMode: 432\n", None, id="no such group"
        ),
    ],
)
def test_the_unit_has_the_groups_of_the_cards(node, devices, params, expected) -> None:
    """By what is there, on whatever system: one that does not exist starts nothing."""
    for name, (mode, group) in devices.items():
        device(node, name, mode, group)
    if params:
        (node / "proc/driver/nvidia/params").write_text(params)
    done = run("--root", str(node))
    assert _unit(node).get("SupplementaryGroups") == expected
    said = "only root may open" in done.stderr or "has no name" in done.stderr
    refused = any(mode == 0o600 for mode, _ in devices.values()) or "61234" in params
    assert said == refused


@pytest.mark.e2e
@pytest.mark.parametrize("mode", [0o666, 0o660], ids=oct)
def test_the_unit_opens_the_cards(node, mode) -> None:
    """As a user of its own with the unit's groups; without these they are closed."""
    if shutil.which("setpriv") is None or os.getuid() != 0:
        pytest.skip("needs root and setpriv")
    card = device(node, "nvidiactl", mode, VIDEO)
    run("--root", str(node))
    groups = _unit(node).get("SupplementaryGroups", "")
    driver = Driver(node)
    driver.install("550.1")
    driver.load("550.1")
    user = ["setpriv", "--reuid=65534", "--regid=65534"]
    needed = f"--groups={groups}" if groups else "--clear-groups"
    for given, opens in ((needed, True), ("--clear-groups", mode == 0o666)):
        env = {"FAKE_DEVICE": str(card)}
        with exporting(driver, env=env, wrapped=[*user, given]) as url:
            if opens:
                until(lambda: scrape(url).get("inferops_gpus") == 1, "it is read")
            else:
                until(lambda: "inferops_gpus" not in scrape(url), "it is closed")


def test_a_second_exporter_beside_the_first(node) -> None:
    """For another Ollama: nothing is shared, and either is removed alone."""
    run("--root", str(node), "--listen", "127.0.0.1:1")
    run("--root", str(node), "--name", "second", "--listen", "127.0.0.1:2")
    first, second = node / UNIT, (node / UNIT).with_name("second.service")
    assert "inferops-exporter" not in second.read_text()
    assert second.read_text().replace("second", "inferops-exporter") == (
        first.read_text()
    )
    assert "--listen=127.0.0.1:2" in (node / "etc/default/second").read_text()
    run("remove", "--root", str(node), "--name", "second")
    assert (first.exists(), second.exists()) == (True, False)
    assert [path.name for path in (node / "opt").iterdir()] == ["inferops-exporter"]


@pytest.mark.e2e
def test_removed_is_removed(tmp_path) -> None:
    """Also where only half of it is there, and twice."""
    for folder in OURS:
        (tmp_path / folder / "of-others").mkdir(parents=True)
    (tmp_path / SETTINGS).write_text("")
    for _ in range(2):
        assert run("remove", "--root", str(tmp_path)).stdout.endswith("removed\n")
    left = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*/of-others")}
    assert left == {f"{folder}/of-others" for folder in OURS}
    assert not (tmp_path / SETTINGS).exists()


def recorder(folder: Path, name: str, then: str = "") -> Path:
    """A simulated program that writes down its arguments, one call a line."""
    folder.mkdir(exist_ok=True)
    log = folder / f"{name}.log"
    program = folder / name
    program.write_text(
        f'#!/bin/sh\nfor each in "$@"; do printf "%s|" "$each"; done >>{log}\n'
        f"echo >>{log}\n{then}\n"
    )
    program.chmod(0o755)
    return log


def test_on_another_machine(tmp_path) -> None:
    """What it needs goes through ssh, the arguments arrive whole, nothing is left."""
    there, scratch = tmp_path / "there", tmp_path / "scratch"
    scratch.mkdir()
    # As sshd does: the words after the host are one shell command.
    log = recorder(tmp_path / "bin", "ssh", f'shift; TMPDIR={scratch} exec sh -c "$*"')
    (there / "etc/default").mkdir(parents=True)
    (there / SETTINGS).write_text("x")
    arguments = ("--root", str(there), "--to", "me@rig", "remove")
    done = run(*arguments, path=tmp_path / "bin")
    assert done.stdout == "inferops-exporter: removed\n"
    assert log.read_text().startswith("me@rig|")
    assert not (there / SETTINGS).exists()
    assert list(scratch.iterdir()) == []


def test_its_failure_there_is_a_failure_here(tmp_path) -> None:
    """With what was said there; an argument with quotes is one argument there too."""
    recorder(tmp_path / "bin", "ssh", 'shift; exec sh -c "$*"')
    done = run("--to", "rig", "--way", "it's", path=tmp_path / "bin", code=1)
    assert "got 'it's'" in done.stderr


@pytest.mark.parametrize("nvidia", [True, False], ids=["cards", "no cards"])
def test_the_container_is_confined(tmp_path, nvidia) -> None:
    """Read-only, without capabilities, bounded; cards only where Docker has them."""
    runtimes = '{"nvidia":{},"runc":{}}' if nvidia else '{"runc":{}}'
    then = f"""case "$1" in info) echo '{runtimes}' ;; esac"""
    log = recorder(tmp_path / "bin", "docker", then)
    where = ("--way", "container", "--listen", "127.0.0.1:1")
    run(*where, "--", "--no-collector.ollama", path=tmp_path / "bin")
    build, stop, info, start = log.read_text().splitlines()
    assert build == f"build|--quiet|--tag|inferops-exporter|{SCRIPT.parent}|"
    assert stop == "rm|--force|inferops-exporter|"
    assert info.startswith("info|")
    for flag in ("--read-only", "--cap-drop|ALL", "--security-opt|no-new-privileges"):
        assert f"|{flag}|" in start
    end = "|inferops-exporter|--listen=127.0.0.1:1|--no-collector.ollama|"
    assert start.endswith(end)
    assert ("|--gpus|all|" in start) == nvidia


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(["--way", "snap"], "--way: must be systemd, ", id="way"),
        pytest.param(["--", "--a b"], "not a plain flag: '--a b'", id="space"),
        pytest.param(["--listen", "$(id)"], "not a plain flag: '$(id)'", id="shell"),
        pytest.param(["--to"], "--to: needs a value", id="no value"),
        pytest.param(["--name", "a b"], "--name: must be of a-z, 0-9 and -", id="name"),
        pytest.param(["upgrade"], "unknown argument 'upgrade'", id="word"),
        pytest.param(
            ["--root", "/x", "--way", "pipx"], "--root: only with systemd", id="root"
        ),
    ],
)
def test_wrong_arguments_are_named(arguments, message) -> None:
    """One line, before anything is done."""
    done = run(*arguments, code=1)
    assert message in done.stderr


def test_shellcheck_finds_no_fault() -> None:
    """The shell's own traps."""
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not on PATH")
    done = subprocess.run(
        ["shellcheck", str(SCRIPT)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == ""


def _project() -> dict:
    return tomllib.loads((ROOT / "exporters/pyproject.toml").read_text())


def test_the_exporters_project_is_the_exporter() -> None:
    """Its version, each of its folders, the packages that its code imports."""
    project = _project()
    assert ["version"] == project["project"]["dynamic"]
    folders = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for path in (ROOT / "exporters").rglob("__init__.py")
    }
    assert set(project["tool"]["setuptools"]["packages"]) == folders
    assert _imported() == {
        {"nvidia-ml-py": "pynvml", "pyyaml": "yaml"}.get(name, name.replace("-", "_"))
        for line in project["project"]["dependencies"]
        if (name := re.split(r"[<>=]", line)[0])
    }


def _imported() -> set[str]:
    """Return what the exporter imports of others."""
    found: set[str] = set()
    for path in (ROOT / "exporters").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found.update(each.name.partition(".")[0] for each in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module.partition(".")[0])
    return found - {"exporters", "__future__", *sys.stdlib_module_names}


def test_its_packages_are_the_repositorys() -> None:
    """The same versions and hashes as are tested."""
    whole = _locked("requirements.lock")
    ours = _locked("exporters/requirements.lock")
    assert ours == {name: whole.get(name) for name in ours}
    for line in _project()["project"]["dependencies"]:
        assert re.split(r"[<>=]", line)[0] in ours


def _locked(path: str) -> dict[str, str]:
    entries = re.split(r"\n(?=\S)", (ROOT / path).read_text().strip())
    return {entry.partition("==")[0]: entry for entry in entries}


def _settings(root: Path) -> dict[str, str]:
    pairs = (line.partition("=") for line in (root / SETTINGS).read_text().splitlines())
    return {key: value.strip('"') for key, _, value in pairs if value}


def _unit(root: Path) -> dict[str, str]:
    pairs = (line.partition("=") for line in (root / UNIT).read_text().splitlines())
    return {key: value for key, _, value in pairs}


def _analyze(*arguments: str) -> str:
    done = subprocess.run(
        ["systemd-analyze", "--no-pager", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stdout + done.stderr


def _get(url: str) -> bool:
    try:
        return requests.get(url, timeout=5).ok
    except requests.RequestException:
        return False
