"""The sandboxes that this process has started; a test's database is no such child."""

from __future__ import annotations

import contextlib

import psutil


def sandboxes() -> list[psutil.Process]:
    return [each for each in psutil.Process().children() if _is_sandbox(each)]


def _is_sandbox(child: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):  # it has just ended
        return any("router.jobs.input.sandbox" in word for word in child.cmdline())
    return False
