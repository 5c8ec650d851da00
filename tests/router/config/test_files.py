"""Files that a person names: regular ones of a bounded size, and nothing else."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from router.config import yaml as document
from router.config.files import read_text
from router.errors import ConfigError


def fifo(path):
    os.mkfifo(path)


def large(path):
    with path.open("wb") as file:
        file.truncate(100 * 1024 * 1024)


def peer(path):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


ODD = {
    "fifo": (fifo, "it is not a regular file"),
    "zero": (lambda path: path.symlink_to("/dev/zero"), "it is not a regular file"),
    "terminal": (lambda path: path.symlink_to("/dev/ptmx"), "it is not a regular file"),
    "folder": (lambda path: path.mkdir(), "Is a directory"),
    "100 MB": (large, "it has over 8388608 bytes"),
    "link to itself": (lambda path: path.symlink_to(path), "Too many levels of"),
    "gone": (lambda path: None, "No such file or directory"),
    "socket": (peer, "No such device or address"),
}


@pytest.mark.timeout(20)
@pytest.mark.parametrize(("make", "why"), ODD.values(), ids=ODD)
def test_what_is_no_small_file_is_refused(tmp_path, monkeypatch, make, why):
    """At once, with the path and what it is instead."""
    monkeypatch.chdir(tmp_path)  # a socket's name is short
    path = Path("nodes.yml")
    make(path)
    with pytest.raises(ConfigError) as told:
        document.read(path)
    assert str(told.value).startswith("nodes.yml: cannot be read: ")
    assert why in str(told.value)


def test_a_file_of_the_largest_size(tmp_path):
    """It is read whole; a byte more is refused."""
    path = tmp_path / "f"
    path.write_bytes(b"x" * 100)
    assert read_text(path, 100) == "x" * 100
    with pytest.raises(OSError, match="it has over 99 bytes"):
        read_text(path, 99)
