"""The log behind the caller's back: never waited for, and what is lost is counted."""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
import sys

import pytest

from router.logs.writer import LineStream, LogWriter
from tests.harness.poll import until

LINE = b"x" * 199 + b"\n"


@pytest.fixture
def pipe():
    """A pipe of 64 KiB, as a shell or supervisord has it."""
    reading, writing = os.pipe()
    yield reading, writing
    for end in (reading, writing):
        with contextlib.suppress(OSError):
            os.close(end)


def drain(reading, until_it_has):
    """Read until something is in it, with what came before."""
    data = b""
    while until_it_has not in data:
        data += os.read(reading, 65536)
    return data


def test_lines_come_out_in_order(pipe):
    """All of them, whole."""
    reading, writing = pipe
    writer = LogWriter(writing)
    for number in range(100):
        writer(b"%d\n" % number)
    assert writer.flush(10)
    assert os.read(reading, 65536).split() == [b"%d" % n for n in range(100)]
    assert writer.dropped == 0


def test_nobody_reads(pipe):
    """Who writes goes on at once; what has no room is counted, and told later."""
    reading, writing = pipe
    told: list[int] = []
    writer = LogWriter(writing)
    writer.on_drop_end = told.append
    for _ in range(20_000):
        writer(LINE)
    assert 10_000 < writer.dropped < 20_000
    assert not writer.flush(0.05)
    kept = 20_000 - writer.dropped
    read = 0
    while read < kept * len(LINE):
        read += len(os.read(reading, 1 << 20))
    assert read == kept * len(LINE)
    until(lambda: told == [writer.dropped], "it is told how many were lost")
    writer(b"again\n")
    assert drain(reading, b"again") == b"again\n"


def test_reader_that_is_gone(pipe):
    """A closed pipe fails nobody; its lines are lost."""
    reading, writing = pipe
    os.close(reading)
    writer = LogWriter(writing)
    writer(LINE)
    until(lambda: writer.dropped == 1, "the line is counted")


def test_full_disk():
    """The same for a disk that takes nothing."""
    writing = os.open("/dev/full", os.O_WRONLY)
    writer = LogWriter(writing)
    for _ in range(3):
        writer(LINE)
    until(lambda: writer.dropped == 3, "the lines are counted")
    os.close(writing)


def test_descriptor_that_does_not_wait(pipe):
    """Somebody else may have set O_NONBLOCK: the thread waits instead."""
    reading, writing = pipe
    flags = fcntl.fcntl(writing, fcntl.F_GETFL)
    fcntl.fcntl(writing, fcntl.F_SETFL, flags | os.O_NONBLOCK)
    writer = LogWriter(writing)
    for _ in range(1000):
        writer(LINE)
    read = 0
    while read < 1000 * len(LINE):
        read += len(os.read(reading, 4096))
    assert (writer.flush(10), writer.dropped) == (True, 0)


def test_line_of_a_megabyte(pipe):
    """One line cannot fill the memory that thousands may."""
    reading, writing = pipe
    writer = LogWriter(writing)
    writer(b"y" * 1_000_000 + b"\n")
    assert len(drain(reading, b"...\n")) == 16_384


CHILD = """
import os, sys
from router.logs import events
events.write_behind()
events.write_stderr(b"parent\\n")
pid = os.fork()
if pid == 0:
    events.write_stderr(b"child\\n")
    sys.exit(0)
os.waitpid(pid, 0)
sys.stderr.write("as text\\n")
"""
PATCHED = "from gevent import monkey; monkey.patch_all()\n"


@pytest.mark.parametrize("patch", ["", PATCHED], ids=["plain", "under gevent"])
def test_fork_and_end(patch):
    """A child writes by a thread of its own, and nothing is lost at the end."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", patch + CHILD],
        capture_output=True,
        check=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": "."},
    )
    assert sorted(done.stderr.split("\n")) == ["", "as text", "child", "parent"]


def test_text_is_written_by_lines():
    """A traceback's pieces come out as whole lines."""
    lines: list[bytes] = []
    stream = LineStream(lines.append)
    for piece in ("a", "b\nc", "\n", "d"):
        print(piece, end="", file=stream)
    assert lines == [b"ab\n", b"c\n"]
    print("\x1b[2K\ud800", file=stream)
    assert lines[-1] == b"d\\x1b[2K\\ud800\n"
