"""`inferops nodes` and the commands that hold nodes."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote

import click

from router.cli.app import Session, command

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


@click.command()
@click.argument("node", required=False)
@command
def nodes(session: Session, node: str | None) -> None:
    """Show the nodes: state, score, load, models, and why one is out."""
    if node:
        found = [session.client.get(_path(node))]
    else:
        found = session.client.get_list("/admin/nodes")
    names = ("node", "state", "score", "in flight", "models", "why")
    session.console.table(found[0] if node else found, names, map(_row, found))


def _row(node: dict[str, Any]) -> list[str]:
    resident, models = len(node["resident"]), len(node["models"])
    return [
        node["name"],
        node["state"],
        f"{node['score']:.2f}",
        f"{node['in_flight']}/{node['slots']}",
        f"{models} ({resident} loaded)",
        "; ".join(f"{hold['kind']}: {hold['reason']}" for hold in node["holds"]),
    ]


def _path(node: str, verb: str = "") -> str:
    return f"/admin/nodes/{quote(node, safe='')}" + (f"/{verb}" if verb else "")


_HOLD_OPTIONS = (
    click.argument("node"),
    click.option("--reason", default="", help="Shown wherever the hold is."),
    click.option("--minutes", type=int, help="Lift the cordon after so long."),
    click.option("--silence", is_flag=True, help="Silence the node's alerts as well."),
)


def _holds(function: Any) -> Any:
    for option in reversed(_HOLD_OPTIONS):
        function = option(function)
    return function


@click.command()
@_holds
@command
def cordon(session: Session, node: str, **given: Any) -> None:
    """Keep new work away from NODE."""
    _changed(session, session.client.post(_path(node, "cordon"), _body(given)))


@click.command()
@_holds
@click.option(
    "--wait", type=int, default=0, help="Seconds to wait until nothing is in flight."
)
@command
def drain(session: Session, node: str, wait: int, **given: Any) -> None:
    """Cordon NODE and wait for what is in flight there."""
    body = {**_body(given), "wait_seconds": wait}
    _changed(session, session.client.post(_path(node, "drain"), body))


@click.command()
@click.argument("node")
@command
def uncordon(session: Session, node: str) -> None:
    """Lift every cordon of NODE; holds of alerts and probes stay."""
    _changed(session, session.client.post(_path(node, "uncordon")))


def _body(given: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if value}


def _changed(session: Session, node: dict[str, Any]) -> None:
    held = "; ".join(f"{h['kind']}: {h['reason']}" for h in node["holds"])
    words = f"{node['name']} {node['state']}, {node['in_flight']} in flight"
    session.console.result(node, f"{words} ({held})" if held else words)


@click.command()
@click.argument("request_id", required=False)
@click.option("--model", help="Dry run: which node would get a request for it.")
@command
def explain(session: Session, request_id: str | None, model: str | None) -> None:
    """Say why a request went where it went, or where one would go."""
    if request_id:
        if not _REQUEST_ID.fullmatch(request_id):
            text = f"{request_id!r} is no request id; a dry run: --model {request_id}"
            raise click.UsageError(text)
        found = session.client.get(f"/admin/explain/{request_id}")
    elif model:
        found = session.client.get("/admin/explain", model=model)
    else:
        found = session.client.get("/admin/explain")
    if session.console.json:
        session.console.data(found)
        return
    for each in found.get("requests", [found]):
        _say_request(session, each)


def _say_request(session: Session, request: dict[str, Any]) -> None:
    session.console.say(
        " ".join(
            str(request[name])
            for name in ("request_id", "path", "model", "ended")
            if request.get(name)
        )
    )
    for decision in request.get("attempts", [request]):
        _say_decision(session, decision)


def _say_decision(session: Session, decision: dict[str, Any]) -> None:
    say = session.console.say
    by = f" by {decision['picker']}" if decision.get("picker") else ""
    say(f"  picked {decision['picked'] or 'none'}{by}{_waited(decision)}")
    if decision.get("failure"):
        say(f"    failed: {decision['failure']}")
    if (kept := decision.get("head_room")) and decision["picked"]:
        say(f"    waited for head-room: slots of {', '.join(kept)} were kept free")
    if held := decision.get("held_back"):
        say(
            f"    held back from {held['from']}: a slot on {' or '.join(held['for'])}"
            f" is expected in {held['expected_seconds']} s and costs less"
            f" ({held['cost_of_waiting']} < {held['cost_there']})"
        )
    if tokens := decision.get("expected_tokens"):
        say(f"    expected {tokens['prompt']} prompt + {tokens['answer']} tokens")
    if actual := decision.get("actual"):
        say(f"    actual: {_seconds(actual)}")
    for each in decision["candidates"]:
        say(f"    {each['node']}: {_candidate(each)}")
    for node, reason in decision["rejected"].items():
        say(f"    {node}: {reason}")


def _waited(decision: dict[str, Any]) -> str:
    seconds = decision.get("waited_seconds")
    return f" after {seconds} s in the queue" if seconds else ""


def _seconds(actual: dict[str, float | None]) -> str:
    first, whole = actual["first_token_seconds"], actual["seconds"]
    said = [] if first is None else [f"first token {first} s"]
    said.append("still running" if whole is None else f"completion {whole} s")
    return ", ".join(said)


def _parts(each: dict[str, Any]) -> str:
    """Return what a time consists of: `prefill 0.1 (0.8 saved …) + decode 2.0`."""
    parts = each.get("expected") or {}
    listed = {name: f"{name} {parts[name]}" for name in parts if parts[name]}
    if saved := each.get("saved_seconds"):
        why = f"({saved} saved by a prompt read there)"
        listed["prefill"] = f"prefill {parts['prefill']} {why}"
    return " + ".join(listed.values())


def _candidate(each: dict[str, Any]) -> str:
    said = f"expected {each['expected_seconds']} s"
    if parts := _parts(each):
        said += f" = {parts}"
    said += f", {each['in_flight']} in flight, score {each['score']}"
    if each.get("measured") is False:
        said += ", speed not measured yet"
    if each.get("evicts"):
        said += f", evicts {' and '.join(each['evicts'])}"
    return said


COMMANDS = (nodes, cordon, drain, uncordon, explain)
