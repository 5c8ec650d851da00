"""What runs: each part's command line, environment and health, without Docker.

A pure description; starting is supervision's. The story test and the launcher run
the very same parts.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Ports:
    """Ports on loopback; the simulated nodes' own stand in the inventory."""

    router: int = 8000
    prometheus: int = 9090
    alertmanager: int = 9093
    grafana: int = 3000
    node_exporter: int = 9100
    exporter: int = 21434  # no known exporter uses it
    simulator_control: int = 21500


@dataclass(frozen=True, slots=True)
class Paths:
    """root: the repository. run: everything that is written. inventory: nodes.yml."""

    root: Path
    run: Path
    inventory: Path

    @property
    def site(self) -> Path:
        """A person's own files (launcher/configuration.py)."""
        return self.root / "site"

    @property
    def secrets(self) -> Path:
        return self.run / "secrets"

    @property
    def data(self) -> Path:
        return self.run / "data"

    @property
    def logs(self) -> Path:
        return self.run / "logs"

    @property
    def prometheus_yml(self) -> Path:
        return self.run / "prometheus.yml"

    @property
    def own_router_yml(self) -> Path | None:
        """The shipped settings with those of site/, where it has any."""
        own = (self.site / "router.yml").is_file()
        return self.run / "router.yml" if own else None

    @property
    def own_signals_yml(self) -> Path | None:
        own = self.site / "signals.yml"
        return own if own.is_file() else None

    @property
    def alertmanager_yml(self) -> Path:
        return self.run / "alertmanager.yml"

    @property
    def provisioning(self) -> Path:
        return self.run / "grafana" / "provisioning"

    @property
    def webhook_token(self) -> Path:
        return self.secrets / "webhook-token"

    @property
    def admin_token(self) -> Path:
        return self.secrets / "admin-token"

    @property
    def metrics_token(self) -> Path:
        return self.secrets / "metrics-token"

    @property
    def alertmanager_password(self) -> Path:
        return self.secrets / "alertmanager-password"

    @property
    def alertmanager_web(self) -> Path:
        return self.run / "alertmanager-web.yml"

    @property
    def amtool_yml(self) -> Path:
        return self.run / "amtool.yml"

    @property
    def grafana_password(self) -> Path:
        return self.secrets / "grafana-admin-password"


@dataclass(frozen=True, slots=True)
class Programs:
    """Where the programs are that are not ours; None leaves the part out."""

    prometheus: Path
    alertmanager: Path
    node_exporter: Path | None = None
    grafana: Path | None = None

    @property
    def web_assets(self) -> Path | None:
        """Where the pages of an unpacked Debian Prometheus are, which has none inside.

        One installed at /usr finds them itself.
        """
        usr = self.prometheus.parent.parent
        pages = usr / "share" / "prometheus" / "web"
        return pages if usr != Path("/usr") and pages.is_dir() else None


@dataclass(frozen=True, slots=True)
class Service:
    """A process to keep running.

    health:       answers 200 once the part can do its work
    password_file: of the login that this needs
    ports:        what it listens on
    stop_seconds: how long an orderly end may take
    """

    name: str
    argv: tuple[str, ...]
    health: str
    ports: tuple[int, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    stop_seconds: int = 10
    password_file: Path | None = None


def services(
    ports: Ports,
    paths: Paths,
    programs: Programs,
    *,
    simulated_ports: tuple[int, ...] = (),
    grace_seconds: float = 25,
    external_host: str = LOOPBACK,
) -> tuple[Service, ...]:
    """List the parts in the order of starting; stopping goes the other way.

    `external_host`: what the links that people get begin with.
    `simulated_ports`: those of the inventory's simulated nodes, none without
    simulator. `grace_seconds`: router.yml's shutdown.grace_seconds.
    """
    found = [
        _exporter(ports, paths),
        _alertmanager(ports, paths, programs, external_host),
    ]
    if simulated_ports:
        found.insert(0, _simulator(ports, paths, simulated_ports))
    if programs.node_exporter:
        found.append(_node_exporter(ports, programs.node_exporter))
    found += [
        _prometheus(ports, paths, programs, external_host),
        _router(ports, paths, grace_seconds, external_host),
    ]
    if programs.grafana:
        found.append(_grafana(ports, paths, programs.grafana, external_host))
    return tuple(found)


def url(port: int, path: str = "", host: str = LOOPBACK) -> str:
    return f"http://{host}:{port}{path}"


def _simulator(ports: Ports, paths: Paths, simulated: tuple[int, ...]) -> Service:
    return Service(
        name="simulator",
        argv=(
            *(sys.executable, "-m", "simulator"),
            *("--inventory", str(paths.inventory)),
            *("--listen", LOOPBACK),
            *("--control-port", str(ports.simulator_control)),
        ),
        health=url(simulated[0], "/api/version"),
        ports=(ports.simulator_control, *simulated),
    )


def _exporter(ports: Ports, paths: Paths) -> Service:
    return Service(
        name="exporter",
        argv=(
            *(sys.executable, "-m", "exporters"),
            *("--listen", f"{LOOPBACK}:{ports.exporter}"),
            *("--probe-targets", str(paths.inventory)),
        ),
        health=url(ports.exporter, "/healthz"),
        ports=(ports.exporter,),
    )


def _node_exporter(ports: Ports, program: Path) -> Service:
    return Service(
        name="node-exporter",
        argv=(
            str(program),
            f"--web.listen-address={LOOPBACK}:{ports.node_exporter}",
        ),
        health=url(ports.node_exporter, "/"),
        ports=(ports.node_exporter,),
    )


def _alertmanager(ports: Ports, paths: Paths, programs: Programs, host: str) -> Service:
    return Service(
        name="alertmanager",
        argv=(
            str(programs.alertmanager),
            f"--config.file={paths.alertmanager_yml}",
            f"--storage.path={paths.data / 'alertmanager'}",
            f"--web.listen-address={LOOPBACK}:{ports.alertmanager}",
            f"--web.external-url={url(ports.alertmanager, host=host)}",
            f"--web.config.file={paths.alertmanager_web}",
            "--cluster.listen-address=",  # one replica: no gossip port
        ),
        health=url(ports.alertmanager, "/-/ready"),
        ports=(ports.alertmanager,),
        password_file=paths.alertmanager_password,
    )


def _prometheus(ports: Ports, paths: Paths, programs: Programs, host: str) -> Service:
    pages = programs.web_assets
    return Service(
        name="prometheus",
        argv=(
            str(programs.prometheus),
            f"--config.file={paths.prometheus_yml}",
            f"--storage.tsdb.path={paths.data / 'prometheus'}",
            "--storage.tsdb.retention.time=32d",
            "--storage.tsdb.retention.size=10GB",
            f"--web.listen-address={LOOPBACK}:{ports.prometheus}",
            f"--web.external-url={url(ports.prometheus, host=host)}",
            f"--web.user-assets={paths.root / 'alerting' / 'runbooks'}",
            # All is scraped each few seconds: what was said a minute ago is old.
            "--query.lookback-delta=1m",
            # No web page may read it: the default lets each in.
            "--web.cors.origin=none",
            # An alert's texts say what the router did, which is after it began to
            # fire: sent again before Alertmanager tells people, after 10 s.
            "--rules.alert.resend-delay=5s",
            *((f"--web.local-assets={pages}",) if pages else ()),
        ),
        health=url(ports.prometheus, "/-/ready"),
        ports=(ports.prometheus,),
        stop_seconds=30,  # writes its head block
    )


def _router(ports: Ports, paths: Paths, grace_seconds: float, host: str) -> Service:
    own = {
        "INFEROPS_CONFIG": paths.own_router_yml,
        "INFEROPS_SIGNALS__PATH": paths.own_signals_yml,
        "INFEROPS_WEB__HOSTS": None if host == LOOPBACK else host,
    }
    own = {name: os.environ.get(name, given) for name, given in own.items()}
    return Service(
        name="router",
        argv=(sys.executable, "-m", "launcher.successors"),
        env={
            "INFEROPS_BIND": f"{LOOPBACK}:{ports.router}",
            "INFEROPS_PROMETHEUS__URL": url(ports.prometheus),
            "INFEROPS_ALERTMANAGER__URL": url(ports.alertmanager),
            "INFEROPS_ALERTMANAGER__PASSWORD_FILE": str(paths.alertmanager_password),
            "INFEROPS_INVENTORY__PATH": str(paths.inventory),
            "INFEROPS_STATE__DIRECTORY": str(paths.data / "router"),
            "INFEROPS_WEBHOOK__TOKEN_FILE": str(paths.webhook_token),
            "INFEROPS_ADMIN__TOKEN_FILE": str(paths.admin_token),
            "INFEROPS_ACCESS__METRICS_TOKEN_FILE": str(paths.metrics_token),
            **{name: str(value) for name, value in own.items() if value},
        },
        health=url(ports.router, "/readyz"),
        ports=(ports.router,),
        stop_seconds=int(grace_seconds) + 10,  # streams under way may end
    )


def _grafana(ports: Ports, paths: Paths, program: Path, host: str) -> Service:
    data = paths.data / "grafana"
    return Service(
        name="grafana",
        argv=(str(program), "server", "--homepath", str(_homepath(program))),
        env={
            "GF_SERVER_HTTP_ADDR": LOOPBACK,
            "GF_SERVER_HTTP_PORT": str(ports.grafana),
            "GF_SERVER_ROOT_URL": url(ports.grafana, host=host),
            "GF_PATHS_DATA": str(data),
            "GF_PATHS_LOGS": str(data / "log"),
            "GF_PATHS_PLUGINS": str(data / "plugins"),
            "GF_PATHS_PROVISIONING": str(paths.provisioning),
            "INFEROPS_DASHBOARDS": str(paths.root / "grafana" / "dashboards"),
            # Grafana itself reads the file: the password is in no environment.
            "GF_SECURITY_ADMIN_PASSWORD": f"$__file{{{paths.grafana_password}}}",
            "GF_ANALYTICS_REPORTING_ENABLED": "false",
            "GF_ANALYTICS_CHECK_FOR_UPDATES": "false",
        },
        health=url(ports.grafana, "/api/health"),
        ports=(ports.grafana,),
        stop_seconds=20,
    )


def _homepath(program: Path) -> Path:
    """Where Grafana's own pages are: beside an unpacked one, else the package's."""
    beside = program.resolve().parent.parent
    if (beside / "conf" / "defaults.ini").is_file():
        return beside
    return Path("/usr/share/grafana")
