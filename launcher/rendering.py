"""Writes into the run directory what the parts read, by the table of substitutions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from launcher import alertmanager, configuration, files, webconfig
from launcher.services import LOOPBACK, Paths, Ports, url
from launcher.substitutions import Substitutions, table


@dataclass(frozen=True, slots=True)
class Intervals:
    """Seconds between scrapes and between evaluations, for tests in a hurry."""

    scrape_seconds: int
    evaluation_seconds: int


def render(
    ports: Ports,
    paths: Paths,
    intervals: Intervals | None = None,
    *,
    external_host: str = LOOPBACK,
) -> None:
    """Make the secrets, and every file that the parts read."""
    for token in (
        paths.webhook_token,
        paths.admin_token,
        paths.metrics_token,
        paths.alertmanager_password,
        paths.grafana_password,
    ):
        files.ensure_token(token)
    webconfig.ensure(paths.alertmanager_web, paths.alertmanager_password)
    files.write(paths.amtool_yml, webconfig.client(paths.alertmanager_password))
    substitutions = table(ports, paths)
    source = paths.root / "prometheus" / "prometheus.yml"
    shipped = configuration.prometheus(source, paths.site)
    config = prometheus(shipped, paths, substitutions, intervals)
    _dump(config, paths.prometheus_yml)
    grafana = url(ports.grafana, host=external_host)
    rendered = _alertmanager(paths, substitutions, grafana)
    _dump(rendered, paths.alertmanager_yml)
    if own := paths.own_router_yml:
        router = paths.root / "router" / "router.yml"
        files.write(own, configuration.settings(router, paths.site))
    provisioning = paths.root / "grafana" / "provisioning"
    for source in sorted(provisioning.rglob("*.yml")):
        rendered = substitutions.tree(_load(source))
        _dump(rendered, paths.provisioning / source.relative_to(provisioning))


def inventory(ports: Ports, paths: Paths) -> None:
    """Write the demonstration's inventory to where `paths` has it."""
    source = paths.root / "simulator" / "targets" / "nodes.yml"
    _dump(table(ports, paths).tree(_load(source)), paths.inventory)


def prometheus(
    config: dict[str, Any],
    paths: Paths,
    substitutions: Substitutions,
    intervals: Intervals | None = None,
) -> dict[str, Any]:
    """Turn the shipped prometheus.yml into one that can be read from anywhere."""
    home = paths.root / "prometheus"
    rendered: dict[str, Any] = {
        key: substitutions.tree(each) for key, each in config.items()
    }
    rendered["rule_files"] = [
        str((home / each).resolve()) for each in config.get("rule_files", [])
    ] + ([f"{paths.site}/rules/*.yml"] if configuration.own_rules(paths.site) else [])
    jobs = rendered.get("scrape_configs", [])
    rendered["scrape_configs"] = [_job(job, paths, intervals) for job in jobs]
    if intervals:
        rendered["global"] = rendered["global"] | {
            "scrape_interval": f"{intervals.scrape_seconds}s",
            "scrape_timeout": f"{intervals.scrape_seconds}s",
            "evaluation_interval": f"{intervals.evaluation_seconds}s",
        }
    return rendered


def _job(
    job: Mapping[str, Any], paths: Paths, intervals: Intervals | None
) -> dict[str, Any]:
    changed = dict(job)
    if "file_sd_configs" in job:
        # Every job reads the one inventory.
        found = [each | {"files": [str(paths.inventory)]} for each in _sd(job)]
        changed["file_sd_configs"] = found
    if intervals:
        changed.pop("scrape_interval", None)
        changed.pop("scrape_timeout", None)
    return changed


def _sd(job: Mapping[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = job["file_sd_configs"]
    return found


def _alertmanager(paths: Paths, substitutions: Substitutions, grafana: str) -> object:
    home = paths.secrets / "alertmanager"
    token = paths.webhook_token
    secrets = receiver_secrets(paths) | {token.name: token.read_text(encoding="utf-8")}
    files.publish(home, secrets, mode=0o400)
    text = alertmanager.render(secrets, at=home, grafana_url=grafana)
    return substitutions.tree(yaml.safe_load(text))


def receiver_secrets(paths: Paths) -> dict[str, str]:
    return alertmanager.receiver_secrets(
        paths.root / "alerting" / "secrets", paths.site / "secrets"
    )


def _load(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def _dump(content: object, path: Path) -> None:
    files.write(path, yaml.safe_dump(content, sort_keys=False))
