"""Bursts of matrix products on a CUDA device, and when exactly they ran.

    python -m bench.gpu_load --burst 0.05 --period 0.5 --seconds 60

Writes one line for each burst, its begin and end on the monotonic clock; needs torch.
"""

from __future__ import annotations

import argparse
import sys
import time

SIZE = 4096  # a product of some 0.2 ms on a Hopper card
TOGETHER = 8  # products between two waits: the card idles for 20 µs at each


def main(arguments: list[str]) -> int:
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--burst", type=float, default=0.05)
    flags.add_argument("--period", type=float, default=0.5)
    flags.add_argument("--seconds", type=float, default=60)
    flags.add_argument("--device", type=int, default=0)
    given = flags.parse_args(arguments)
    import torch  # noqa: PLC0415 - only where there is a card

    device = torch.device("cuda", given.device)
    left = torch.randn(SIZE, SIZE, device=device, dtype=torch.bfloat16)
    out = torch.empty_like(left)
    for _ in range(50):  # libraries are loaded and clocks are up before it counts
        torch.mm(left, left, out=out)
    torch.cuda.synchronize(device)
    print("ready", flush=True)
    end = time.monotonic() + given.seconds
    due = time.monotonic()
    while due < end:
        time.sleep(max(0.0, due - time.monotonic()))
        began = time.monotonic()
        while time.monotonic() - began < given.burst:
            for _ in range(TOGETHER):
                torch.mm(left, left, out=out)
            torch.cuda.synchronize(device)
        print(f"{began:.6f} {time.monotonic():.6f}", flush=True)
        due += given.period
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
