"""Writes nodes that join into the inventory's file, which Prometheus reads as well."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from router.config.additions import with_entry
from router.config.files import read_text
from router.config.reload import ConfigFiles
from router.config.settings import Config
from router.config.yaml import parse
from router.runtime.threads import DISK
from router.runtime.whole_file import write_whole


def add_entry(files: ConfigFiles, config: Config, entry: Mapping[str, Any]) -> bool:
    """Add an entry and read the file again; False where it stands there already.

    Raises ConfigError where the file would not be an inventory, and OSError.
    """
    path = config.inventory.path
    added = DISK(lambda: _write(path, entry))
    if added:
        files.inventory.reload(time.time(), confirmed=False)
    return added


def _write(path: Path, entry: Mapping[str, Any]) -> bool:
    text = read_text(path)
    if entry in (parse(text, path.name, as_written=True) or []):
        return False
    longer = with_entry(text, entry, source=path.name)
    mode = path.stat().st_mode & 0o777  # Prometheus reads it, too
    write_whole(path, longer.encode(), mode=mode)
    return True
