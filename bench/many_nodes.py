"""A thousand nodes from one process: each has a loopback address of its own.

Answers Ollama's routes as `bench.simulated_fleet` does, and `/metrics` with a few of
DCGM's series, for whichever address of 127.0.0.0/8 it is asked at.

    python -m bench.many_nodes --port 21600
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Mapping, Sequence

from bench.simulated_fleet import _Connection

_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\n"


def address(index: int) -> str:
    """Give a node's own loopback address."""
    return f"127.1.{index // 250}.{index % 250 + 1}"


def entries(count: int, port: int, slots: int) -> list[Mapping[str, object]]:
    """Make the inventory of so many nodes."""
    return [
        {
            "targets": [address(index)],
            "labels": {
                "node": f"node-{index:04}",
                "__ollama": f"http://{address(index)}:{port}",
                "__dcgm_address": f"{address(index)}:{port}",
                "__scrape": "dcgm",
                "__slots": str(slots),
                "__tflops": str(20 + index % 80),
                "__vram_bytes": "24e9",
            },
        }
        for index in range(count)
    ]


def exposition(node: str) -> bytes:
    """Write the few series that signals and alerts read of one card."""
    labels = f'{{gpu="0",UUID="GPU-{node}"}}'
    # Spread out, so that no two nodes' scores are the same.
    number = sum(int(part) for part in node.split("."))
    series: Mapping[str, float] = {
        "DCGM_FI_DEV_GPU_TEMP": 40 + number % 30,
        "DCGM_FI_DEV_GPU_UTIL": number % 100,
        "DCGM_FI_DEV_FB_USED": 4000 + number,
        "DCGM_FI_DEV_FB_FREE": 20000 - number,
        "DCGM_FI_DEV_ECC_DBE_VOL_TOTAL": 0,
        "DCGM_EXP_XID_ERRORS_COUNT": 0,
    }
    return "".join(f"{n}{labels} {value}\n" for n, value in series.items()).encode()


class Machine(_Connection):
    """A connection to one of the nodes."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._address: str = transport.get_extra_info("sockname")[0]

    def _answer(self, path: str, body: bytes) -> None:
        if path.partition("?")[0] != "/metrics":
            super()._answer(path, body)
            return
        text = exposition(self._address)
        self._transport.write(
            _HEAD + b"Content-Length: %d\r\n\r\n%b" % (len(text), text)
        )


async def _run(port: int, tokens_per_second: float) -> None:
    loop = asyncio.get_running_loop()
    await loop.create_server(
        lambda: Machine(tokens_per_second), "0.0.0.0", port, backlog=4096
    )
    await asyncio.Event().wait()


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="many nodes from one process")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--tokens-per-second", type=float, default=20)
    args = parser.parse_args(argv)
    asyncio.run(_run(args.port, args.tokens_per_second))


if __name__ == "__main__":
    main()
