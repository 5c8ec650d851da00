"""The content of alertmanager.yml for the receivers that were found; pure.

Only keys that Alertmanager 0.25 knows as well.
"""

from __future__ import annotations

from alerting.receivers import PASSWORD, SLACK, TOKEN, Mail, Receivers

__all__ = ["config"]

Yaml = dict[str, object]


def config(
    receivers: Receivers,
    *,
    secrets: str,
    templates: str,
    router_url: str,
    grafana_url: str,
) -> Yaml:
    """Make the whole file.

    secrets, templates: the folders as Alertmanager sees them
    router_url: of the node-health webhook
    grafana_url: what people's links to dashboards begin with, unless a file says so
    """
    mail = receivers.mail
    found: Yaml = {"global": _smtp(mail, secrets)} if mail else {}
    grafana = receivers.grafana_url or grafana_url
    return found | {
        "templates": [f"{templates}/*.tmpl"],
        "route": _route(receivers),
        "inhibit_rules": _inhibit_rules(),
        "receivers": [
            {"name": "nobody"},
            {"name": "people"} | _receivers(receivers, secrets, grafana.rstrip("/")),
            *(_router(router_url, secrets) if receivers.router else ()),
            *(_watchdog(receivers.watchdog_url) if receivers.watchdog_url else ()),
        ],
    }


def _route(receivers: Receivers) -> Yaml:
    # At once, and again each minute in case that the router missed it.
    # The shortest group_interval, since it also delays resolves and re-fires.
    router: Yaml = {
        "receiver": "router",
        "matchers": ['action!=""'],
        "group_by": ["alertname", "node"],
        "group_wait": "0s",
        "group_interval": "1s",
        "repeat_interval": "1m",
        "continue": True,
    }
    watchdog: Yaml = {
        "receiver": "watchdog" if receivers.watchdog_url else "nobody",
        "matchers": ['alertname="Watchdog"'],
        "group_wait": "0s",
        "group_interval": "30s",
        "repeat_interval": "1m",
    }
    return {
        "receiver": "nobody",  # severity info and none: on dashboards only
        "routes": [
            watchdog,
            *([router] if receivers.router else ()),
            # 10 s: the router has acted by then, and Prometheus has sent the alert
            # again with what it did (docker-compose.yml: resend delay).
            _told("critical", wait="10s", interval="1m", repeat="1h"),
            # A cause that inhibits it may take longer to fire.
            _told("warning", wait="30s", interval="5m", repeat="12h"),
        ],
    }


def _told(severity: str, *, wait: str, interval: str, repeat: str) -> Yaml:
    """People's route. By node and cause: a lost card shows in several alerts."""
    return {
        "receiver": "people",
        "matchers": [f'severity="{severity}"'],
        "group_by": ["node", "component"],
        "group_wait": wait,
        "group_interval": interval,
        "repeat_interval": repeat,
    }


def _inhibit_rules() -> list[Yaml]:
    """Mute what only follows from another alert that people have.

    Inhibition mutes an alert for all receivers, so one with an `action` must not be
    muted: the router would not hear of it. People get it in a message of its own.
    """
    return [
        # NodeDown itself is not muted: an alert does not inhibit itself.
        _mutes(['alertname="NodeDown"'], ['alertname!="NodeDown"', 'node!=""'], "node"),
        _mutes(
            ['alertname=~"GpuMissing|GpuXidCritical|GpuRecoveryAction"'],
            ['alertname=~"Gpu.+|OllamaOnCpu"', 'node!=""'],
            "node",
        ),
        _mutes(
            ['alertname=~"OllamaDown|OllamaWedged"'],
            ['component="ollama"', 'node!=""'],
            "node",
        ),
        # One disk, one objective: the page says what the ticket would.
        _mutes(
            ['severity="critical"', 'action=""'],
            ['severity="warning"'],
            *("alertname", "node", "mountpoint", "slo"),
        ),
        # Without their database no job can move on.
        _mutes(
            ['alertname="JobDatabaseDown"'], ['alertname=~"JobStuck|JobNoProgress"']
        ),
        # When the fleet is lost, nobody reads of its nodes one by one.
        _mutes(
            ['alertname=~"FleetPanic|FleetHasNoNode"'],
            ['severity="warning"', 'component=~"gpu|node|ollama"'],
        ),
    ]


def _mutes(sources: list[str], targets: list[str], *equal: str) -> Yaml:
    return {
        "source_matchers": sources,
        "target_matchers": ['action=""', *targets],
        "equal": list(equal),
    }


def _router(url: str, secrets: str) -> tuple[Yaml]:
    token = {"type": "Bearer", "credentials_file": f"{secrets}/{TOKEN}"}
    # max_alerts 0 (the default): nothing is cut off, or nodes would be hidden.
    hook = {
        "url": url,
        "send_resolved": True,
        "http_config": {"authorization": token},
    }
    return ({"name": "router", "webhook_configs": [hook]},)


def _watchdog(url: str) -> tuple[Yaml]:
    hook = {"url": url, "send_resolved": False}
    return ({"name": "watchdog", "webhook_configs": [hook]},)


def _receivers(receivers: Receivers, secrets: str, grafana: str) -> Yaml:
    # Templates take no settings: each text defines what they begin links with.
    links = f'{{{{ define "inferops.grafana" }}}}{grafana}{{{{ end }}}}'
    configs: Yaml = {}
    if receivers.mail:
        configs["email_configs"] = [_email(receivers.mail.to, links)]
    if receivers.slack:
        configs["slack_configs"] = [_slack(f"{secrets}/{SLACK}", links)]
    if receivers.webhook_url:
        configs["webhook_configs"] = [
            {"url": receivers.webhook_url, "send_resolved": True}
        ]
    return configs


def _email(to: str, links: str) -> Yaml:
    return {
        "to": to,
        "send_resolved": True,
        "headers": {"Subject": '{{ template "inferops.title" . }}'},
        "text": links + '{{ template "inferops.text" . }}',
        "html": links + '{{ template "inferops.html" . }}',
    }


def _slack(url_file: str, links: str) -> Yaml:
    return {
        "api_url_file": url_file,
        "send_resolved": True,
        "color": '{{ template "inferops.slack.color" . }}',
        "title": '{{ template "inferops.title" . }}',
        "title_link": "{{ .ExternalURL }}",
        "text": links + '{{ template "inferops.slack.text" . }}',
        "fallback": '{{ template "inferops.title" . }}',
    }


def _smtp(mail: Mail, secrets: str) -> Yaml:
    settings: Yaml = {
        "smtp_smarthost": mail.smarthost,
        "smtp_from": mail.sender,
        "smtp_require_tls": mail.require_tls,
    }
    if mail.username:
        settings["smtp_auth_username"] = mail.username
        settings["smtp_auth_password_file"] = f"{secrets}/{PASSWORD}"
    return settings
