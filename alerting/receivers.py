"""Which receivers have what they need, found in the folder of secrets.

Reads the files; writes nothing. A secret's own text stays in its file:
Alertmanager reads it by a `*_file` key. The one exception are URLs of webhooks,
for which Alertmanager 0.25 has no such key.

    webhook-token   the router's; without it there is no node-health webhook
    slack-api-url   an incoming webhook of Slack
    webhook-url     where notifications are posted as JSON, to people or their tools
    watchdog-url    a dead man's switch: gets the Watchdog every minute
    grafana-url     no secret: what links to dashboards begin with, if people reach
                    Grafana at another address than this machine does
    smtp.yml        the settings of `Mail`
    smtp-password   with smtp.yml's `username`

A file that is empty counts as absent.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from alerting.errors import RenderError

__all__ = ["Mail", "Receivers", "find", "people"]

TOKEN = "webhook-token"  # noqa: S105 - the name of a file
SLACK = "slack-api-url"
WEBHOOK = "webhook-url"
WATCHDOG = "watchdog-url"
GRAFANA = "grafana-url"
SMTP = "smtp.yml"
PASSWORD = "smtp-password"  # noqa: S105 - the name of a file


_WANTED = {
    "smarthost": "host:port",
    "sender": "a mail address",
    "to": "mail addresses",
}


class Mail(BaseModel):
    """How mail leaves, and to whom.

    smarthost: host:port of the mail relay
    sender:    the From address
    to:        one address, or several with commas between
    username:  logs in with smtp-password; without it there is no login
    require_tls: false only for a relay on the same machine
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    smarthost: str = Field(pattern=r"^(\[.+\]|[^:\s]+):\d+$")
    sender: str = Field(pattern="@")
    to: str = Field(pattern="@")
    username: str | None = None
    require_tls: bool = True


@dataclass(frozen=True, slots=True)
class Receivers:
    """What was found; False and None where it was not."""

    router: bool = False
    slack: bool = False
    webhook_url: str | None = None
    watchdog_url: str | None = None
    grafana_url: str | None = None
    mail: Mail | None = None


def find(secrets: Path) -> Receivers:
    """Look into the folder; raises RenderError where a file in it is wrong."""
    if not secrets.is_dir():
        raise RenderError(f"{secrets}: must be a folder of secrets, found none")
    return Receivers(
        router=_text(secrets / TOKEN) is not None,
        slack=_url(secrets / SLACK) is not None,
        webhook_url=_url(secrets / WEBHOOK),
        watchdog_url=_url(secrets / WATCHDOG),
        grafana_url=_url(secrets / GRAFANA),
        mail=_mail(secrets),
    )


def people(found: Receivers) -> list[str]:
    """Name the ways by which people are notified, without a secret."""
    mail = [f"mail to {found.mail.to}"] if found.mail else []
    slack = ["Slack"] if found.slack else []
    return [*mail, *slack, *(["webhook"] if found.webhook_url else [])]


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8").strip() or None
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise RenderError(f"{path}: cannot be read: {error}") from error


def _url(path: Path) -> str | None:
    text = _text(path)
    if text is None:
        return None
    try:
        parts = urlsplit(text)
        whole = parts.scheme in {"http", "https"} and bool(parts.hostname)
    except ValueError:
        whole = False
    if not whole or len(text.split()) > 1:
        # Not shown: Slack's URL is all that protects a channel.
        raise RenderError(f"{path}: must be one http or https URL, got something else")
    return text


def _mail(secrets: Path) -> Mail | None:
    path = secrets / SMTP
    text = _text(path)
    if text is None:
        return None
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise RenderError(f"{path}: must be YAML, got {error}") from error
    if not isinstance(content, dict):
        raise RenderError(f"{path}: must be a mapping, got {content!r}")
    try:
        mail = Mail.model_validate(content)
    except ValidationError as error:
        faults = error.errors(include_url=False)
        lines = [f"{path}: {fault['loc'][0]}: {_what(fault)}" for fault in faults]
        raise RenderError("\n".join(lines)) from error
    if mail.username and _text(secrets / PASSWORD) is None:
        raise RenderError(
            f"{path}: username: needs {PASSWORD} beside it, got {mail.username!r}"
        )
    return mail


def _what(fault: ErrorDetails) -> str:
    match fault["type"]:
        case "missing":
            return "field required"
        case "extra_forbidden":
            return "unknown field"  # its value may be a secret: not shown
        case "string_pattern_mismatch":
            wanted = _WANTED[str(fault["loc"][0])]
            return f"must be {wanted}, got {fault['input']!r}"
        case _:
            return (
                f"{fault['msg'][:1].lower()}{fault['msg'][1:]}, got {fault['input']!r}"
            )
