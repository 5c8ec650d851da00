"""Compose's one-shot `init`: makes the secrets, each consumer's in a volume of its own.

`python -m launcher.init VOLUMES RECEIVERS`: the folder of the volumes, and the folder
with what a person wants Alertmanager to have.

File secrets of Compose are bind mounts with the wrong owner for a non-root user;
here each file belongs to the one who reads it, and to nobody else. Originals stay
in a volume that only init sees, so that a second start keeps every secret.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from launcher import alertmanager, files, webconfig
from launcher.errors import LaunchError

WEBHOOK_TOKEN = "webhook-token"  # noqa: S105  a file's name
PASSWORD = "alertmanager-password"  # noqa: S105  a file's name
_MODE = 0o400


@dataclass(frozen=True, slots=True)
class Consumer:
    """A service: its volume's name, the user in its image, and what it reads."""

    volume: str
    uid: int
    secrets: tuple[str, ...]


ALERTMANAGER = Consumer("alertmanager", 65534, (WEBHOOK_TOKEN, PASSWORD))
CONSUMERS = (
    Consumer("router", 10001, (WEBHOOK_TOKEN, "admin-token", PASSWORD)),
    ALERTMANAGER,
    Consumer("prometheus", 65534, (PASSWORD,)),
    Consumer("grafana", 472, ("grafana-admin-password",)),
    Consumer("open-webui", 0, ("open-webui-secret-key",)),
)

Own = Callable[[Path, int], None]


def own(path: Path, uid: int) -> None:
    os.chown(path, uid, uid)


def prepare(volumes: Path, receivers: Path, own: Own = own) -> None:
    """Fill every volume; what a person put into `receivers` goes to Alertmanager."""
    originals = volumes / "secrets"
    for name in sorted({name for each in CONSUMERS for name in each.secrets}):
        files.ensure_token(originals / name)
    given = {
        each.volume: [originals / name for name in each.secrets] for each in CONSUMERS
    }
    given[ALERTMANAGER.volume] += alertmanager.receiver_secrets(receivers)
    for consumer in CONSUMERS:
        alertmanager.fill(volumes / consumer.volume, given[consumer.volume])
    home = volumes / ALERTMANAGER.volume
    rendered = alertmanager.render(home)
    files.write(home / "alertmanager.yml", rendered, mode=_MODE)
    webconfig.ensure(home / "web.yml", home / PASSWORD, mode=_MODE)
    files.write(home / "amtool.yml", webconfig.client(home / PASSWORD), mode=_MODE)
    # Last: without capabilities, root cannot read what is no longer its own.
    for consumer in CONSUMERS:
        for path in (volumes / consumer.volume).iterdir():
            own(path, consumer.uid)


def main(argv: Sequence[str]) -> int:
    volumes, receivers = argv
    try:
        prepare(Path(volumes), Path(receivers))
    except (LaunchError, OSError) as error:
        print(f"init: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
