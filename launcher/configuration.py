"""What the services read: the shipped files and those of `site/`, put together.

`site/` holds a person's own files, which no upgrade touches (docs/upgrade.md):

    nodes.yml     the inventory, in place of the shipped ones
    router.yml    settings that differ from router/router.yml
    prometheus.yml  added to prometheus/prometheus.yml: its lists get longer by it
    signals.yml   in place of router/signals.yml
    rules/*.yml   more rules for Prometheus
    secrets/*     receivers' secrets (alerting/receivers.py)
    tls/*         with Docker: server.pem and key.pem, for https (docs/access.md)
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from launcher import files
from launcher.errors import LaunchError

# By folder of the repository, which is also the one below /etc/inferops.
_SHIPPED = (
    ("alerting/rules", "*.yml"),
    ("alerting/runbooks", "*.md"),
    ("alerting/templates", "*.tmpl"),
    ("compose/tailscale", "*.json"),
    ("exporters", "*.csv"),
    ("grafana/dashboards", "*.json"),
    ("grafana/provisioning", "**/*.yml"),
    ("prometheus", "*.yml"),
    ("prometheus/records", "*.yml"),
    ("router", "*.yml"),
    ("simulator/targets", "*.yml"),
)
INVENTORY = "prometheus/targets/nodes.yml"
RULES = "alerting/rules"
_RUNBOOKS = "alerting/runbooks"
_ROUTER = "router/router.yml"
_PROMETHEUS = "prometheus/prometheus.yml"
_SIGNALS = "router/signals.yml"
_HTTPS = ("server.pem", "key.pem")
_SITE_RULES = f"{RULES}/site-"
# What is written in the runbooks.
_ROUTER_LINK = "http://127.0.0.1:8000"
_GRAFANA_LINK = "http://127.0.0.1:3000"


@dataclass(frozen=True, slots=True)
class Links:
    """The addresses by which people reach the services."""

    router: str = _ROUTER_LINK
    grafana: str = _GRAFANA_LINK


@dataclass(frozen=True, slots=True)
class Sources:
    """checkout: the repository, with site/. targets: the shipped inventory's folder."""

    checkout: Path
    targets: Path

    @property
    def site(self) -> Path:
        return self.checkout / "site"

    @property
    def secrets(self) -> tuple[Path, Path]:
        """Where a person puts receivers' secrets; site/ wins."""
        return self.checkout / "alerting" / "secrets", self.site / "secrets"


def collect(sources: Sources, links: Links | None = None) -> dict[str, str]:
    """Read every file, by its path below /etc/inferops.

    Raises LaunchError where one of site/ cannot be used.
    """
    found = dict(_shipped(sources.checkout))
    found |= {
        f"prometheus/targets/{path.name}": _read(path)
        for path in sorted(sources.targets.glob("*.yml"))
    }
    found |= _own(sources.site, found)
    return _linked(found, links or Links())


def settings(shipped: Path, site: Path) -> str:
    """Return router.yml with what site/router.yml says otherwise."""
    own = site / "router.yml"
    text = _read(shipped)
    if not own.is_file():
        return text
    return yaml.safe_dump(_merged(_mapping(shipped), _mapping(own)), sort_keys=False)


def prometheus(shipped: Path, site: Path) -> dict[str, Any]:
    """Return prometheus.yml with what site/prometheus.yml adds."""
    own = site / "prometheus.yml"
    base = _mapping(shipped)
    return _merged(base, _mapping(own), longer=True) if own.is_file() else base


def own_rules(site: Path) -> list[Path]:
    return sorted((site / "rules").glob("*.yml"))


def inventory(site: Path) -> Path | None:
    """Name a person's own inventory, where there is one."""
    own = site / "nodes.yml"
    return own if own.is_file() else None


def https(site: Path) -> dict[str, str]:
    """Read a person's certificate and its key, where they are."""
    there = (site / "tls" / name for name in _HTTPS)
    return {path.name: _read(path) for path in there if path.is_file()}


def publish(folder: Path, wanted: Mapping[str, str], *, whole: bool) -> bool:
    """Put the files into `folder`, readable by every service; tell of a change.

    whole: False keeps what was shipped with the code that runs, and takes only a
    person's own files: the checkout has other code than the image.
    """
    if not whole:
        kept = {
            name: path.read_text(encoding="utf-8")
            for path in folder.rglob("*")
            if path.is_file() and not _live(name := str(path.relative_to(folder)))
        }
        wanted = kept | {name: text for name, text in wanted.items() if _live(name)}
    return files.publish(folder, wanted, mode=0o644)


def _live(name: str) -> bool:
    return name.startswith((_SITE_RULES, "prometheus/targets/"))


def _shipped(checkout: Path) -> Iterator[tuple[str, str]]:
    for folder, pattern in _SHIPPED:
        for path in sorted((checkout / folder).glob(pattern)):
            yield str(path.relative_to(checkout)), _read(path)


def _own(site: Path, shipped: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    if nodes := inventory(site):
        yield INVENTORY, _read(nodes)
    if (site / "signals.yml").is_file():
        yield _SIGNALS, _read(site / "signals.yml")
    for name, longer in ((_ROUTER, False), (_PROMETHEUS, True)):
        own = site / Path(name).name
        if own.is_file():
            base = yaml.safe_load(shipped[name])
            merged = _merged(base, _mapping(own), longer=longer)
            yield name, yaml.safe_dump(merged, sort_keys=False)
    for path in own_rules(site):
        yield f"{_SITE_RULES}{path.name}", _read(path)


def _linked(found: dict[str, str], links: Links) -> dict[str, str]:
    """Make the runbooks' links lead where people reach the services."""
    return {
        name: _led(text, links) if name.startswith(_RUNBOOKS) else text
        for name, text in found.items()
    }


def _led(text: str, links: Links) -> str:
    for shipped, own in ((_GRAFANA_LINK, links.grafana), (_ROUTER_LINK, links.router)):
        bare = re.escape(shipped.removeprefix("http://"))
        text = own.join(re.split(rf"(?:http://)?{bare}\b", text))
    return text


def _merged(
    base: Mapping[str, Any], own: Mapping[str, Any], *, longer: bool = False
) -> dict[str, Any]:
    """Put one mapping over another; longer: lists are added, else replaced."""
    return {
        **base,
        **{
            key: _over(base.get(key), value, longer=longer)
            for key, value in own.items()
        },
    }


def _over(base: object, own: object, *, longer: bool) -> object:
    if isinstance(base, dict) and isinstance(own, dict):
        return _merged(base, own, longer=longer)
    if longer and isinstance(base, list) and isinstance(own, list):
        return [*base, *own]
    return own


def _mapping(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(_read(path))
    except yaml.YAMLError as error:
        raise LaunchError(f"{path}: must be YAML: {error}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise LaunchError(f"{path}: must be a mapping, got {type(content).__name__}")
    return content


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise LaunchError(f"{path}: cannot be read: {error}") from error
