"""`inferops keys`: who may use the router."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import click

from router.cli.app import Session, command
from router.cli.client import CliError
from router.cli.outcome import Exit
from router.text import api_key

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_TIME = re.compile(r"([0-9]{1,6})([smhdw])")


@click.group()
def keys() -> None:
    """Make, list, rotate and revoke API keys."""


@keys.command()
@click.argument("name")
@click.option("--owner", help="Whose jobs and files they are; default: the key's own.")
@click.option("--tag", "tags", multiple=True, help="A group; repeatable.")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    type=click.Choice([scope.value for scope in api_key.Scope]),
    help="What it is for; repeatable. Default: inference.",
)
@click.option("--model", "models", multiple=True, help="llama3*; repeatable.")
@click.option("--network", "networks", multiple=True, help="10.0.0.0/8; repeatable.")
@click.option(
    "--limit",
    "limits",
    multiple=True,
    metavar="NAME=NUMBER",
    help="requests_per_minute=60, tokens_per_day=1000000 ...; repeatable.",
)
@click.option(
    "--user-header",
    metavar="NAME",
    help="Of a proxy's key: the header in which it names the user.",
)
@click.option("--expires", metavar="WHEN", help="A date, or a time from now: 90d.")
@command
def create(session: Session, name: str, **given: Any) -> None:
    """Make a key named NAME. It is shown here, and never again."""
    terms = {field: value for field, value in given.items() if value}
    if "limits" in terms:
        terms["limits"] = dict(_limit(each) for each in terms["limits"])
    if "expires" in terms:
        terms["expires"] = _instant(terms["expires"])
    _show_key(session, session.client.post("/admin/keys", {"name": name, **terms}))


@keys.command("list")
@command
def list_(session: Session) -> None:
    """List the keys."""
    found = session.client.get("/admin/keys")
    names = ("id", "name", "state", "scopes", "owner", "tags", "expires", "begins with")
    session.console.table(found, names, map(_row, found["keys"]))
    if not (found["required"] or session.console.json):
        session.console.say("no key is needed: whoever reaches the router may use it")


@keys.command()
@click.argument("key")
@click.option(
    "--overlap",
    default="1d",
    show_default=True,
    metavar="TIME",
    help="How long the old secret works on; 0s: not at all.",
)
@command
def rotate(session: Session, key: str, overlap: str) -> None:
    """Give KEY (an id or a name) a new secret."""
    body = {"overlap_seconds": int(_seconds(overlap, "--overlap"))}
    _show_key(session, session.client.post(f"{_path(key)}/rotate", body))


@keys.command()
@click.argument("key")
@command
def revoke(session: Session, key: str) -> None:
    """End KEY (an id or a name) at once."""
    found = session.client.delete(_path(key))
    session.console.result(found, f"key {found['name']} ({found['id']}) is revoked")


@keys.command()
@click.option("--json", "as_json", is_flag=True, help="Write JSON, for scripts.")
def generate(*, as_json: bool) -> None:
    """Make a key for the file of keys, without any router: the key, and its digest."""
    secret = api_key.new_secret()
    made = {"key": secret, "sha256": api_key.digest_of(secret)}
    if as_json:
        click.echo(json.dumps(made))
        return
    for name, value in made.items():
        click.echo(f"{name}: {value}")


def _show_key(session: Session, made: dict[str, Any]) -> None:
    """Write the key to standard output, and nothing else there."""
    if session.console.json:
        session.console.data(made)
        return
    session.console.say(
        f"key {made['name']} ({made['id']}) for {', '.join(made['scopes'])};"
        " it is not shown again:"
    )
    session.console.raw([f"{made['key']}\n".encode()])


def _row(key: dict[str, Any]) -> list[str]:
    return [
        key["id"],
        key["name"],
        key["state"],
        ",".join(key["scopes"]),
        key["owner"] or "",
        ",".join(key["tags"]),
        key["expires"] or "never",
        key["secrets"][0]["shown"] or f"({key['source']})",
    ]


def _path(key: str) -> str:
    return f"/admin/keys/{quote(key, safe='')}"


def _limit(text: str) -> tuple[str, float]:
    name, _, number = text.partition("=")
    if not number.replace(".", "", 1).isdecimal():
        raise CliError(f"--limit must be NAME=NUMBER, got {text!r}", Exit.USAGE)
    amount = float(number) if "." in number else int(number)
    return name.replace("-", "_"), amount


def _instant(text: str) -> str:
    """Read a date as it is, or a time from now."""
    if text[:4].isdecimal() and "-" in text:
        return text
    seconds = _seconds(text, "--expires")
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()


def _seconds(text: str, option: str) -> float:
    found = _TIME.fullmatch(text.strip())
    if found is None:
        raise CliError(f"{option} must be a time such as 90d, got {text!r}", Exit.USAGE)
    return float(found[1]) * _UNITS[found[2]]


COMMANDS = (keys,)
