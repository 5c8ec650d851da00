"""Play the simulated nodes of an inventory: `python -m simulator --inventory FILE`."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ipaddress
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import structlog

from simulator.clock import Clock
from simulator.fleet import Fleet, Settings
from simulator.inventory import InventoryError, any_simulated, read
from simulator.model import NodeSpec
from simulator.speed import Scaling

BAD_FILE = 2
PORT_TAKEN = 1
_LOOK_SECONDS = 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until a signal ends it; returns the exit status."""
    given = _arguments(arguments)
    try:
        specs = read(given.inventory)
    except InventoryError as error:
        sys.stderr.write(f"simulator: {error}\n")
        return BAD_FILE
    settings = Settings(given.listen, given.control_port, given.seed, given.scaling)
    try:
        asyncio.run(_play(specs, settings, given.while_in))
    except OSError as error:
        sys.stderr.write(f"simulator: cannot listen: {error.strerror or error}\n")
        return PORT_TAKEN
    return 0


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="simulator", description=__doc__)
    parser.add_argument("--inventory", type=Path, required=True, metavar="FILE")
    parser.add_argument("--listen", type=_address, default="127.0.0.1")
    parser.add_argument(
        "--while-in",
        type=Path,
        metavar="FILE",
        help="end once this inventory has no simulated node any more",
    )
    parser.add_argument("--control-port", type=int, default=21500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--scaling",
        type=Scaling,
        choices=list(Scaling),
        default=Scaling.H200,
        help="total speed of streams that decode together on one node",
    )
    return parser.parse_args(arguments)


def _address(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        message = f"must be an IP address, got {text!r}"
        raise argparse.ArgumentTypeError(message) from None


async def _play(
    specs: Sequence[NodeSpec], settings: Settings, while_in: Path | None
) -> None:
    fleet = Fleet(specs, settings, Clock(time.monotonic, time.time))
    await fleet.open()
    _announce(fleet, settings)
    running = asyncio.ensure_future(fleet.run())
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, running.cancel)
    if while_in:
        left = asyncio.ensure_future(_left(while_in))
        left.add_done_callback(lambda _: running.cancel())
    with contextlib.suppress(asyncio.CancelledError):
        await running


async def _left(inventory: Path) -> None:
    """Return once the inventory names no simulated node; a fault in it does not."""
    while True:
        with contextlib.suppress(InventoryError):
            if not await asyncio.to_thread(any_simulated, inventory):
                return
        await asyncio.sleep(_LOOK_SECONDS)


def _announce(fleet: Fleet, settings: Settings) -> None:
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.LogfmtRenderer(
                key_order=["timestamp", "level", "event"]
            ),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    log = structlog.get_logger()
    for node in fleet.nodes:
        log.info(
            "simulated_node",
            node=node.spec.name,
            url=f"http://{settings.listen}:{node.spec.port}",
            slots=node.spec.slots,
            models=",".join(node.models),
        )
    log.info(
        "simulator_ready",
        control=f"http://{settings.listen}:{settings.control_port}",
        nodes=len(fleet.nodes),
        seed=settings.seed,
        scaling=str(settings.scaling),
    )


if __name__ == "__main__":
    sys.exit(main())
