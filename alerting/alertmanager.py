"""The content of alertmanager.yml for the receivers that were found; pure.

Only keys that Alertmanager 0.25 knows as well.
"""

from __future__ import annotations

from alerting.receivers import PASSWORD, SLACK, TOKEN, Mail, Receivers

__all__ = ["config"]

Yaml = dict[str, object]


def config(
    receivers: Receivers, *, secrets: str, templates: str, router_url: str
) -> Yaml:
    """Make the whole file.

    secrets, templates: the folders as Alertmanager sees them
    router_url: of the node-health webhook
    """
    mail = receivers.mail
    found: Yaml = {"global": _smtp(mail, secrets)} if mail else {}
    return found | {
        "templates": [f"{templates}/*.tmpl"],
        "route": _route(receivers),
        "inhibit_rules": [_node_down()],
        "receivers": [
            {"name": "nobody"},
            {"name": "people"} | _people(receivers, secrets),
            *(_router(router_url, secrets) if receivers.router else ()),
            *(_watchdog(receivers.watchdog_url) if receivers.watchdog_url else ()),
        ],
    }


def _route(receivers: Receivers) -> Yaml:
    # Grouped by node and cause: two hot cards of a node are one message.
    people: Yaml = {
        "receiver": "people",
        "matchers": ['severity=~"critical|warning"'],
        "group_by": ["node", "alertname"],
        "group_wait": "10s",
        "group_interval": "1m",
        "repeat_interval": "4h",
    }
    # A doorbell: at once, and again each minute in case that the router missed it.
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
        "routes": [watchdog, *([router] if receivers.router else ()), people],
    }


def _node_down() -> Yaml:
    """While a node is gone, mute what only follows from that.

    Inhibition mutes an alert for all receivers, so one with an `action` must not be
    muted: the router would not hear of it. People get it in a message of its own.
    """
    return {
        "source_matchers": ['alertname="NodeDown"'],
        # NodeDown itself is not muted: an alert does not inhibit itself.
        "target_matchers": ['action=""', 'alertname!="NodeDown"', 'node!=""'],
        "equal": ["node"],
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


def _people(receivers: Receivers, secrets: str) -> Yaml:
    configs: Yaml = {}
    if receivers.mail:
        configs["email_configs"] = [_email(receivers.mail.to)]
    if receivers.slack:
        configs["slack_configs"] = [_slack(f"{secrets}/{SLACK}")]
    if receivers.webhook_url:
        configs["webhook_configs"] = [
            {"url": receivers.webhook_url, "send_resolved": True}
        ]
    return configs


def _email(to: str) -> Yaml:
    return {
        "to": to,
        "send_resolved": True,
        "headers": {"Subject": '{{ template "inferops.title" . }}'},
        "text": '{{ template "inferops.text" . }}',
        "html": '{{ template "inferops.html" . }}',
    }


def _slack(url_file: str) -> Yaml:
    return {
        "api_url_file": url_file,
        "send_resolved": True,
        "color": '{{ template "inferops.slack.color" . }}',
        "title": '{{ template "inferops.title" . }}',
        "title_link": "{{ .ExternalURL }}",
        "text": '{{ template "inferops.slack.text" . }}',
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
