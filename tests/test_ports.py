"""Tests in several workers never get each other's ports."""

from __future__ import annotations

import subprocess
import sys

from tests.harness.ports import free_ports
from tests.harness.process import ROOT

WALK = """
import itertools, sys
from tests.harness import ports
ports._next = itertools.count(int(sys.argv[1]) - ports._PORTS.start)
print(*ports.free_ports(3))
"""


def test_another_process_passes_over_ports_that_are_taken_but_not_yet_used():
    taken = free_ports(3)
    argv = [sys.executable, "-c", WALK, str(taken[0])]
    run = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=True)
    found = {int(port) for port in run.stdout.split()}
    assert len(found) == 3
    assert not found & set(taken)
