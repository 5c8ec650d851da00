"""The one table that turns Compose's names into this machine's.

The shipped configuration speaks the language of docker-compose.yml: names of
services, and paths inside the containers. Whoever runs it without Docker replaces
exactly what stands in `table`, nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from launcher.services import LOOPBACK, Paths, Ports

# Where docker-compose.yml mounts the repository's configuration.
CONFIGURATION = "/etc/inferops"
# Where it mounts what Prometheus is told by init.
SECRETS = "/run/inferops/prometheus"
# The ports of simulator/targets/nodes.yml: those after the control port.
SIMULATED = range(21501, 21505)


@dataclass(frozen=True, slots=True)
class Substitutions:
    """What is replaced by what, in one pass, so that no output is replaced again."""

    table: Mapping[str, str]

    def text(self, text: str) -> str:
        # The longest name wins; a name inside a longer name or number stays.
        names = sorted(self.table, key=len, reverse=True)
        pattern = "|".join(map(re.escape, names))
        whole = rf"(?<![\w.-])(?:{pattern})(?![\w-])"
        return re.sub(whole, lambda found: self.table[found[0]], text)

    def tree(self, value: object) -> object:
        """Replace in every string of a parsed document, keys left as they are."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, list):
            return [self.tree(each) for each in value]
        if isinstance(value, dict):
            return {key: self.tree(each) for key, each in value.items()}
        return value


def table(ports: Ports, paths: Paths) -> Substitutions:
    """Give the table for these ports and paths."""
    addresses = {
        "router:8000": ports.router,
        "prometheus:9090": ports.prometheus,
        "alertmanager:9093": ports.alertmanager,
        "grafana:3000": ports.grafana,
        "node-exporter:9100": ports.node_exporter,
        "exporter:21434": ports.exporter,
        **{
            f"simulator:{port}": ports.simulator_control + offset
            for offset, port in enumerate(SIMULATED, start=1)
        },
    }
    return Substitutions(
        {name: f"{LOOPBACK}:{port}" for name, port in addresses.items()}
        | {CONFIGURATION: str(paths.root), SECRETS: str(paths.secrets)}
    )
