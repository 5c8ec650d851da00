"""Small pictures of whole pages: a PNG of few colours, made by the browser itself."""

from __future__ import annotations

import base64
import struct
import zlib
from pathlib import Path
from typing import Any

from tests.harness.browser import Page

_COLOURS = 96
_SCRIPT = Path(__file__).with_suffix(".js").read_text()


def picture(page: Page, clip: tuple[int, int, int, int] | None = None) -> bytes:
    """Take the page at its full height, or `clip` of it: left, top, width, height."""
    if clip is None:
        size = page.run("return [innerWidth, document.documentElement.scrollHeight]")
        clip = (0, 0, *size)
    area = dict(zip(("x", "y", "width", "height"), clip, strict=True))
    asked = {"format": "png", "captureBeyondViewport": True}
    shot = page.driver.execute_cdp_cmd(
        "Page.captureScreenshot", {**asked, "clip": {**area, "scale": 1}}
    )
    page.driver.set_script_timeout(60)
    script = f"(async (picture, most) => {{{_SCRIPT}}})"
    return _png(
        page.driver.execute_async_script(
            f"{script}(...arguments).then(arguments[2])", shot["data"], _COLOURS
        )
    )


def _png(found: dict[str, Any]) -> bytes:
    head = struct.pack(">IIBBBBB", found["width"], found["height"], 8, 3, 0, 0, 0)
    rows = zlib.compress(base64.b64decode(found["rows"]), 9)
    chunks = (
        (b"IHDR", head),
        (b"PLTE", bytes(found["palette"])),
        (b"IDAT", rows),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data))
        + kind
        + data
        + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
