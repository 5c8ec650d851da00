"""Compose's one-shot `init`: configuration and secrets, in volumes for each consumer.

`python -m launcher.init CHECKOUT TARGETS CONFIGURATION VOLUMES [RELEASES]`: where the
repository and the inventory's folder are mounted, then the volume of the configuration,
the folder of the secrets' volumes, and the volume from which the router runs.

Configuration is copied, so that a checkout that only its owner may read works; so are
a certificate and its key for https, from site/tls, which only the router may read.
File secrets of Compose are bind mounts with the wrong owner for a non-root user;
here each file belongs to the one who reads it, and to nobody else. Originals stay
in a volume that only init sees, so that a second start keeps every secret.
"""

from __future__ import annotations

import filecmp
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from launcher import alertmanager, configuration, files, releases, webconfig
from launcher.configuration import Links, Sources
from launcher.errors import LaunchError

WEBHOOK_TOKEN = "webhook-token"  # noqa: S105  a file's name
PASSWORD = "alertmanager-password"  # noqa: S105  a file's name
METRICS_TOKEN = "metrics-token"  # noqa: S105  a file's name
_MODE = 0o400
_CODE = Path(__file__).resolve().parents[1]
_PACKAGES = ("alerting", "exporters", "launcher", "router", "simulator")


@dataclass(frozen=True, slots=True)
class Consumer:
    """A service: its volume's name, the user in its image, and what it reads."""

    volume: str
    uid: int
    secrets: tuple[str, ...]


ALERTMANAGER = Consumer("alertmanager", 65534, (WEBHOOK_TOKEN, PASSWORD))
ROUTER = Consumer(
    "router", 10001, (WEBHOOK_TOKEN, "admin-token", METRICS_TOKEN, PASSWORD)
)
CONSUMERS = (
    ROUTER,
    ALERTMANAGER,
    Consumer("prometheus", 65534, (PASSWORD, METRICS_TOKEN)),
    Consumer("grafana", 472, ("grafana-admin-password",)),
    Consumer("open-webui", 0, ("open-webui-secret-key",)),
)

Own = Callable[[Path, int], None]


def own(path: Path, uid: int) -> None:
    os.chown(path, uid, uid)


@dataclass(frozen=True, slots=True)
class Volumes:
    """configuration: read by every service. secrets: the folder of their volumes."""

    configuration: Path
    secrets: Path

    @property
    def alertmanager(self) -> Path:
        return self.secrets / ALERTMANAGER.volume


def prepare(
    sources: Sources, volumes: Volumes, links: Links | None = None, own: Own = own
) -> bool:
    """Fill every volume; tell of a change. What is right already stays untouched."""
    links = links or Links()
    wanted = configuration.collect(sources, links)
    changed = files.differ(volumes.configuration, wanted) and configuration.publish(
        volumes.configuration,
        wanted,
        whole=not any(volumes.configuration.iterdir()) or same_code(sources.checkout),
    )
    originals = volumes.secrets / "secrets"
    for name in sorted({name for each in CONSUMERS for name in each.secrets}):
        files.ensure_token(originals / name)
    for consumer in CONSUMERS:
        given = {
            name: (originals / name).read_text(encoding="utf-8")
            for name in consumer.secrets
        }
        if consumer is ALERTMANAGER:
            given = _with_people(sources, given, volumes.alertmanager, links)
        elif consumer is ROUTER:
            given |= configuration.https(sources.site)
        changed |= _hand_out(volumes.secrets / consumer.volume, given, consumer, own)
    return changed


def _with_people(
    sources: Sources, tokens: dict[str, str], home: Path, links: Links
) -> dict[str, str]:
    secrets = alertmanager.receiver_secrets(*sources.secrets) | tokens
    text = alertmanager.render(secrets, at=home, grafana_url=links.grafana)
    return {
        **secrets,
        alertmanager.FILE: text,
        "web.yml": webconfig.kept(home / "web.yml", tokens[PASSWORD].strip()),
        "amtool.yml": webconfig.client(home / PASSWORD),
    }


def _hand_out(
    volume: Path, given: Mapping[str, str], consumer: Consumer, own: Own
) -> bool:
    return files.publish(
        volume, given, mode=_MODE, own=lambda path: own(path, consumer.uid)
    )


def same_code(checkout: Path, image: Path = _CODE) -> bool:
    """Tell whether the checkout's code is the one that this image was built from.

    A checkout that was pulled but not built must not change what runs.
    """
    ours = {p.relative_to(image) for name in _PACKAGES for p in _modules(image / name)}
    there = {
        p.relative_to(checkout) for name in _PACKAGES for p in _modules(checkout / name)
    }
    # Compares contents once for each pair of signatures.
    return ours == there and all(
        filecmp.cmp(image / each, checkout / each) for each in ours
    )


def _modules(folder: Path) -> list[Path]:
    return list(folder.rglob("*.py"))


def parse(argv: Sequence[str]) -> tuple[Sources, Volumes, Links]:
    """Read the command line, and the links from the environment."""
    checkout, targets, folder, secrets = map(Path, argv[:4])
    shipped = Links()
    links = Links(
        router=os.environ.get("ROUTER_LINK", shipped.router).rstrip("/"),
        grafana=os.environ.get("GRAFANA_LINK", shipped.grafana).rstrip("/"),
    )
    return Sources(checkout, targets), Volumes(folder, secrets), links


def main(argv: Sequence[str]) -> int:
    sources, volumes, links = parse(argv)
    try:
        prepare(sources, volumes, links)
        # Last: a router that starts finds its configuration and its secrets.
        for volume in argv[4:]:
            releases.publish(_CODE, Path(sys.prefix), Path(volume))
        people = alertmanager.receiver_secrets(*sources.secrets)
        print(f"init: notified: {alertmanager.audience(people)}")
    except (LaunchError, OSError) as error:
        print(f"init: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
