"""What the command line's exit codes mean; scripts rely on them."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Any

OVER = frozenset({"completed", "failed", "expired", "cancelled"})


class Exit(IntEnum):
    DONE = 0  # it was done; of a job: every item has its answer
    INCOMPLETE = 1  # the job is over, and not every item has an answer
    USAGE = 2  # argparse's own
    REFUSED = 3  # the router says no: bad input, no such job, wrong state
    UNREACHABLE = 4  # no router there, or it was lost for too long
    DETACHED = 130  # Ctrl-C; the job goes on


def exit_of(job: Mapping[str, Any]) -> Exit:
    """Tell how a job that is over went."""
    items = job["progress"]["items"]
    whole = job["state"] == "completed" and not items["failed"]
    return Exit.DONE if whole else Exit.INCOMPLETE
