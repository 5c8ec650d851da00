"""Asks for whole replies as fast as they come; stands in where wrk is missing.

    python -m bench.asking 21520/api/chat 32 10

Prints one line of JSON: requests, seconds, faults.
"""

from __future__ import annotations

import asyncio
import json
import sys

from bench.load import Target

_LONGEST_REPLY_SECONDS = 20


async def ask(target: Target, connections: int, seconds: float) -> dict[str, float]:
    """Keep `connections` busy for `seconds`, and count what they were answered."""
    loop = asyncio.get_running_loop()
    counts = {"requests": 0, "faults": 0}
    began = loop.time()
    tasks = [
        loop.create_task(_connection(target, began + seconds, counts))
        for _ in range(connections)
    ]
    await asyncio.gather(*tasks)
    return {**counts, "seconds": loop.time() - began}


async def _connection(target: Target, until: float, counts: dict[str, int]) -> None:
    loop = asyncio.get_running_loop()
    message = target.request(1, stream=False)
    while loop.time() < until:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", target.port)
            while loop.time() < until:
                writer.write(message)
                async with asyncio.timeout(_LONGEST_REPLY_SECONDS):
                    head = await reader.readuntil(b"\r\n\r\n")
                    await _body(head.lower(), reader)
                counts["requests" if b" 200 " in head[:13] else "faults"] += 1
            writer.close()
        except asyncio.IncompleteReadError as error:
            # A proxy may end an idle connection; nginx does after 1,000 requests.
            counts["faults"] += bool(error.partial)
        except OSError:  # it refused, or was too slow
            counts["faults"] += 1
            await asyncio.sleep(0.1)


async def _body(head: bytes, reader: asyncio.StreamReader) -> bytes:
    _, found, value = head.partition(b"\r\ncontent-length:")
    if found:
        return await reader.readexactly(int(value.partition(b"\r\n")[0]))
    return await reader.readuntil(b"0\r\n\r\n")


def main() -> None:
    target, connections, seconds = sys.argv[1:]
    result = asyncio.run(ask(Target.parse(target), int(connections), float(seconds)))
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
