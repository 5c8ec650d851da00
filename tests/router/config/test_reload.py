"""Reloading: what is accepted, refused, kept, told; the clock is an argument."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from router.config.reload import (
    FileFormat,
    LastGood,
    ReloadStatus,
    Watched,
    open_config_files,
)
from router.config.settings import Config
from router.errors import BusyError, ConfigError

ROOT = Path(__file__).parents[3]
OLD = 1_000_000_000  # seconds: a file of this age is not young
NOW = OLD + 1000.0


class Log:
    """Records events; satisfies router.config.reload.Log."""

    def __init__(self):
        self.events = []

    def info(self, event, /, **fields):
        self.events.append((event, fields))

    warning = error = info

    def names(self):
        return [event for event, _ in self.events]


def parse(text):
    """Accept whole numbers only."""
    if not text.strip().isdigit():
        raise ConfigError(f"number.yml: must be a number, got {text!r}")
    return int(text)


def judge(new, current):
    """Refuse to go down."""
    if new < current:
        raise ConfigError(f"number.yml: must not be < {current}, got {new}")


@pytest.fixture
def path(tmp_path):
    return put(tmp_path / "number.yml", "1")


@pytest.fixture
def log():
    return Log()


def put(path, text, at=OLD):
    """Write a file that was changed at `at`."""
    path.write_text(text)
    os.utime(path, (at, at))
    return path


def watch(path, log, last_good=None):
    return Watched(path, FileFormat(parse, judge, last_good), log, now=NOW)


def test_loads_at_once(path, log):
    """The first value is there after construction, and counts as a success."""
    watched = watch(path, log)

    assert watched.value == 1
    assert watched.status() == ReloadStatus("number.yml", NOW)
    assert watched.status().successful


def test_change_is_taken_and_told(path, log):
    """A changed file becomes the value; listeners get the old and the new one."""
    watched = watch(path, log)
    told = []
    watched.listen(lambda old, new: told.append((old, new, watched.value)))
    put(path, "2", at=OLD + 1)

    watched.check(NOW + 5)
    watched.check(NOW + 6)

    assert told == [(1, 2, 2)]
    assert watched.status() == ReloadStatus("number.yml", NOW + 5)
    assert log.events == [
        ("config_reloaded", {"file": "number.yml", "path": str(path)})
    ]


@pytest.mark.parametrize("how", ["time", "size", "inode"])
def test_change_is_seen_by(path, log, how):
    """Any of modification time, size and inode gives a change away."""
    watched = watch(path, log)
    if how == "time":
        put(path, "2", at=OLD + 1)
    elif how == "size":
        put(path, "22")
    else:
        put(path.with_name("new"), "2").replace(path)

    watched.check(NOW)

    assert watched.value > 1


def test_unchanged_file_is_not_read(path, log):
    """An old file that looks the same is left alone."""
    watched = watch(path, log)
    path.write_text("2")
    os.utime(path, (OLD, OLD))  # the same size, inode and time

    watched.check(NOW)
    assert watched.value == 1


def test_young_file_is_compared_by_its_text(path, log):
    """Two writes within a tick of the file's clock look the same, and are not."""
    put(path, "1", at=NOW)
    watched = watch(path, log)
    put(path, "2", at=NOW)

    watched.check(NOW + 1)

    assert watched.value == 2


def test_faulty_file_keeps_the_last_good_value(path, log):
    """A rejected edit changes nothing, is said once, and shows in the status."""
    watched = watch(path, log)
    told = []
    watched.listen(lambda *change: told.append(change))
    put(path, "many", at=NOW)

    watched.check(NOW + 1)
    watched.check(NOW + 1.5)

    fault = "number.yml: must be a number, got 'many'"
    assert watched.value == 1
    assert watched.status() == ReloadStatus("number.yml", NOW, fault)
    assert not watched.status().successful
    assert told == []
    assert log.names() == ["config_rejected"]
    assert log.events[0][1]["fault"] == fault


def test_vanished_file_keeps_the_last_good_value(path, log):
    """Deleting the file is a fault like any other, and heals by itself."""
    watched = watch(path, log)
    path.unlink()
    watched.check(NOW)
    assert "cannot be read" in watched.status().fault
    put(path, "3")

    watched.check(NOW + 1)

    assert watched.value == 3
    assert watched.status().successful


def test_undoing_a_faulty_edit_is_a_success(path, log):
    """The good text again: successful, and no listener is woken."""
    watched = watch(path, log)
    told = []
    watched.listen(lambda *change: told.append(change))
    put(path, "many", at=OLD + 1)
    watched.check(NOW)
    put(path, "1", at=OLD + 2)

    watched.check(NOW + 1)

    assert watched.status() == ReloadStatus("number.yml", NOW + 1)
    assert told == []


def test_judgement_can_be_overruled(path, log):
    """What the rules refuse goes in when an operator confirms it, faults do not."""
    watched = watch(path, log)
    put(path, "0", at=OLD + 1)
    watched.check(NOW)
    assert watched.value == 1

    assert watched.reload(NOW + 1, confirmed=True).successful
    assert watched.value == 0
    put(path, "many", at=OLD + 2)
    assert not watched.reload(NOW + 2, confirmed=True).successful


def test_start_without_file_or_last_good_fails(tmp_path, log):
    """There is nothing to run with."""
    with pytest.raises(ConfigError, match="cannot be read"):
        watch(tmp_path / "number.yml", log, LastGood(tmp_path / "kept"))


@pytest.mark.parametrize("text", ["many", "", "1", None])
def test_start_uses_what_was_last_good(path, log, tmp_path, text):
    """Faulty, empty, refused by the judge, absent: the kept value, flagged."""
    last_good = LastGood(tmp_path / "state" / "kept")
    put(path, "2")
    watch(path, log, last_good)
    if text is None:
        path.unlink()
    else:
        put(path, text)

    watched = watch(path, log, last_good)

    assert watched.value == 2
    assert not watched.status().successful
    assert watched.status().succeeded_at is None
    assert log.names() == ["config_rejected"]


def test_accepted_text_is_kept_whole_and_alone(path, log, tmp_path):
    """Each accepted text replaces the kept one; no temporary file stays."""
    last_good = LastGood(tmp_path / "state" / "kept")
    watched = watch(path, log, last_good)
    put(path, "2", at=OLD + 1)
    watched.check(NOW)
    put(path, "many", at=OLD + 2)
    watched.check(NOW)

    assert last_good.load() == "2"
    assert [each.name for each in last_good.path.parent.iterdir()] == ["kept"]


def test_unusable_last_good_is_ignored(path, log, tmp_path):
    """What is kept may be of an older version: said, and overwritten."""
    last_good = LastGood(put(tmp_path / "kept", "gibberish"))

    assert watch(path, log, last_good).value == 1
    assert log.names() == ["last_good_unusable"]
    assert last_good.load() == "1"


def test_full_disk_does_not_stop_a_reload(path, log, tmp_path):
    """The value counts though it cannot be kept; the log says so."""
    blocked = put(tmp_path / "blocked", "no folder")
    watched = watch(path, log, LastGood(blocked / "kept"))
    put(path, "2", at=OLD + 1)

    watched.check(NOW)

    assert watched.value == 2
    assert log.names() == [
        "last_good_not_kept",
        "config_reloaded",
        "last_good_not_kept",
    ]


NODES = '- targets: ["192.0.2.{0}"]\n  labels: {{node: "n{0}"}}\n'


@pytest.fixture
def folder(tmp_path):
    """The three files, with four nodes."""
    put(tmp_path / "nodes.yml", "".join(NODES.format(n) for n in range(4)))
    put(tmp_path / "signals.yml", (ROOT / "router/signals.yml").read_text())
    lines = [
        f"inventory: {{path: {tmp_path}/nodes.yml}}",
        f"signals: {{path: {tmp_path}/signals.yml}}",
        f"state: {{directory: {tmp_path}/state}}",
    ]
    put(tmp_path / "router.yml", "\n".join(lines))
    return tmp_path


def open_all(folder, log):
    return open_config_files(folder / "router.yml", {}, log, NOW)


def test_opens_the_three_files(folder, log):
    """router.yml names the two others; each tells its status under its own name."""
    files = open_all(folder, log)

    assert isinstance(files.config.value, Config)
    assert len(files.inventory.value.nodes) == 4
    statuses = [each.status() for each in files]
    assert ["router.yml", "signals.yml", "nodes.yml"] == [s.file for s in statuses]
    assert all(status.successful for status in statuses)


@pytest.mark.parametrize("text", ["", NODES.format(1), "- targets: ["])
def test_emptied_shrunk_or_broken_fleet_is_refused_over_a_restart(folder, log, text):
    """Running or restarted, the router keeps the fleet until the file is right."""
    files = open_all(folder, log)
    put(folder / "nodes.yml", text, at=OLD + 1)

    files.check(NOW)
    restarted = open_all(folder, log)

    for each in (files, restarted):
        assert len(each.inventory.value.nodes) == 4
        assert not each.inventory.status().successful


def test_confirmed_shrinking_outlives_a_restart(folder, log):
    """What an operator confirmed is the new last good fleet."""
    files = open_all(folder, log)
    put(folder / "nodes.yml", NODES.format(1), at=OLD + 1)

    assert files.inventory.reload(NOW, confirmed=True).successful
    assert len(open_all(folder, log).inventory.value.nodes) == 1


def test_overrides_hold_after_a_reload(folder, log):
    """The environment wins over the file at each reload too."""
    environ = {"INFEROPS_DISPATCH__ATTEMPTS": "9"}
    files = open_config_files(folder / "router.yml", environ, log, NOW)
    text = (folder / "router.yml").read_text() + "\ndispatch: {attempts: 2}"
    put(folder / "router.yml", text, at=OLD + 1)

    files.check(NOW)

    assert files.config.status().successful
    assert files.config.value.dispatch.attempts == 9


def test_setting_that_needs_a_restart_is_named(folder, log):
    """A reload that cannot take effect says which settings wait."""
    files = open_all(folder, log)
    text = (
        folder / "router.yml"
    ).read_text() + "\nshutdown: {grace_seconds: 5}\nlog: {level: error}"
    put(folder / "router.yml", text, at=OLD + 1)

    files.check(NOW)

    assert log.events[-1] == ("restart_needed", {"settings": "shutdown.grace_seconds"})


def test_disk_that_does_not_answer(path, log):
    """The last good value stays, and it is told; later the file is read."""
    slow: list[bool] = []

    def offload(call):
        if slow:
            raise BusyError("the router's disk: not done within 30 s")
        return call()

    watched = Watched(path, FileFormat(parse, judge), log, now=NOW, offload=offload)
    put(path, "2", OLD + 10)
    slow.append(True)
    watched.check(NOW)
    watched.check(NOW)
    assert (watched.value, watched.status().successful) == (1, False)
    assert watched.reload(NOW).fault == (
        "number.yml: cannot be read: the router's disk: not done within 30 s"
    )
    assert log.names() == ["config_rejected"]
    slow.clear()
    watched.check(NOW)
    assert (watched.value, watched.status().successful) == (2, True)


def test_reads_and_parses_where_it_holds_nobody_up(path, log):
    """All of the disk and the parsing is given away, the listeners are not."""
    here, away = [], []

    def offload(call):
        away.append(1)
        try:
            return call()
        finally:
            away.pop()

    def parsed(text):
        here.append(("parse", bool(away)))
        return parse(text)

    watched = Watched(path, FileFormat(parsed), log, now=NOW, offload=offload)
    watched.listen(lambda *_: here.append(("listen", bool(away))))
    put(path, "2", OLD + 10)
    watched.check(NOW)
    assert here[-2:] == [("parse", True), ("listen", False)]
