"""The limit of open files: raised at start, and told when it is too low.

A router that runs out of them can reach no node, and would blame the nodes.
"""

from __future__ import annotations

import resource
from typing import Protocol

from router.logs.events import Logger
from router.model import Inventory

# Logs, the database, Prometheus, the listener, files while they are read.
_OWN = 128
_PROBES_PER_NODE = 2
_MOST_PROBES = 256  # at one time, however many nodes there are
# Connections that are closing: the answer of a refusal is waited for a moment.
_MOST_SPARE = 256
_LEAST_SPARE = 8
# Asked for where there is no limit; the kernel's own default of fs.nr_open.
_PLENTY = 1_048_576


class ResourceModule(Protocol):
    """The two calls that are needed of `resource`."""

    def getrlimit(self, which: int, /) -> tuple[int, int]: ...

    def setrlimit(self, which: int, limits: tuple[int, int], /) -> None: ...


def for_nodes(inventory: Inventory, default_slots: int) -> int:
    """Count what the nodes need: a connection for each slot, and the polls'."""
    slots = sum(node.slots or default_slots for node in inventory.nodes)
    return slots + min(_PROBES_PER_NODE * len(inventory.nodes), _MOST_PROBES)


def spare_for(clients: int) -> int:
    """Say how many connections beside so many clients may be closing at one time."""
    return min(_MOST_SPARE, max(_LEAST_SPARE, clients // 8))


def connections_within(
    wanted: int,
    nodes: int,
    log: Logger,
    limits: ResourceModule = resource,
    *,
    files_each: int = 1,
) -> int:
    """Raise the limit; return how many clients' connections fit beneath it.

    Those that are closing fit beneath it too (`spare_for`).

    files_each: open files of one connection
    """
    limit = _raised(limits)
    needed = (wanted + spare_for(wanted)) * files_each + nodes + _OWN
    if limit >= needed:
        return wanted
    fitting = _fitting((limit - nodes - _OWN) // files_each)
    log.warning(
        "open_files_limit_low",
        limit=limit,
        needed=needed,
        for_clients=wanted,
        for_nodes=nodes,
        for_itself=_OWN,
        consequence=f"at most {fitting} connections of clients are served",
        remedy="raise the hard limit: ulimit -Hn, LimitNOFILE= or nofile",
    )
    return fitting


def _fitting(room: int) -> int:
    """Give the most clients that have room with their spare; at least one."""
    clients = min(room * 8 // 9, room - _LEAST_SPARE)
    while clients > 1 and clients + spare_for(clients) > room:
        clients -= 1
    return max(1, clients)


def _raised(limits: ResourceModule) -> int:
    """Set the soft limit to the hard one; the soft one is 1,024 on most systems."""
    soft, hard = limits.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _PLENTY if hard == resource.RLIM_INFINITY else hard
    if soft != resource.RLIM_INFINITY and soft < wanted:
        limits.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return wanted
