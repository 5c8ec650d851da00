"""`/admin/nodes/<name>/…`: operators hold a node, release it, overrule an alert."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import gevent
from flask import Response, g, jsonify, request

from router.clients.alertmanager import SILENCE, SilenceError
from router.errors import BadRequestError, NotFoundError
from router.holds.record import Actor
from router.logs.events import get_logger
from router.model import Hold, HoldKind, Override
from router.web.admin.auth import check_range, fields
from router.web.admin.context import AdminContext
from router.web.admin.views import iso, show_override
from router.web.caller import address

_CORDON = {"reason": str, "by": str, "minutes": int, "silence": bool}
_LONGEST_WAIT_SECONDS = 300
_LONGEST_OVERRIDE_MINUTES = 7 * 24 * 60
_LONGEST_CORDON_MINUTES = 366 * 24 * 60

log = get_logger("holding")


def cordon(parts: AdminContext, name: str) -> Response:
    """Keep new work away; what is in flight ends by itself."""
    reported = _place_cordon(parts, name, fields(_CORDON))
    return parts.answer(name, **reported)


def drain(parts: AdminContext, name: str) -> Response:
    """Cordon, then wait until nothing is in flight, at most `wait_seconds`."""
    given = fields({**_CORDON, "wait_seconds": int})
    seconds = given.pop("wait_seconds", 0)
    check_range("wait_seconds", seconds, 0, _LONGEST_WAIT_SECONDS)
    reported = _place_cordon(parts, name, given)
    deadline = time.monotonic() + seconds
    while parts.ledger.in_flight(name) and time.monotonic() < deadline:
        gevent.sleep(0.05)
    return parts.answer(name, **reported)


def uncordon(parts: AdminContext, name: str) -> Response:
    """Lift every operator's cordon; holds of alerts and probes stay."""
    parts.view(name)
    given = fields({"by": str, "reason": str})
    held = [h for h in parts.holds.of(name) if h.kind is HoldKind.CORDON]
    parts.holds.uncordoned(name)
    _lift(parts, held, given)
    return parts.answer(name, **_lift_silences(parts, held))


def clear(parts: AdminContext, name: str) -> Response:
    """Lift an alert's hold that waits for a person (`clear: manual`)."""
    parts.view(name)
    given = fields({"alert": str, "by": str, "reason": str})
    alert = _alert(given)
    held = [h for h in parts.holds.of(name) if h.alert == alert]
    if not held:
        raise NotFoundError(f"alert {alert!r} holds node {name!r} by nothing")
    _lift(parts, held, given)
    return parts.answer(name)


def override(parts: AdminContext, name: str) -> Response:
    """Serve despite one alert, for so many minutes; also before it fires."""
    parts.view(name)
    given = fields({"alert": str, "minutes": int, "by": str, "reason": str})
    alert, minutes = _alert(given), given.get("minutes", 0)
    check_range("minutes", minutes, 1, _LONGEST_OVERRIDE_MINUTES)
    now = parts.clock()
    parts.holds.override(
        Override(
            node=name,
            alert=alert,
            by=_who(given),
            reason=given.get("reason") or "overridden by an operator",
            since=now,
            until=now + minutes * 60,
        ),
        _actor(),
    )
    return parts.answer(name)


def end_override(parts: AdminContext, name: str) -> Response:
    """Have an overridden alert count again before its time."""
    parts.view(name)
    given = fields({"alert": str, "by": str})
    alert = _alert(given)
    if not parts.holds.end_override(name, alert, _who(given), _actor()):
        raise NotFoundError(f"alert {alert!r} is not overridden on node {name!r}")
    return parts.answer(name)


def overrides(parts: AdminContext) -> Response:
    """List every override in force."""
    return jsonify([show_override(each) for each in parts.holds.overrides.list()])


def _actor() -> Actor:
    """Say who makes this change, whatever they call themselves."""
    return Actor(g.principal, address(request.environ))


def _who(given: Mapping[str, Any]) -> str:
    return f"operator:{given.get('by') or 'admin'}"


def _alert(given: Mapping[str, Any]) -> str:
    alert: str = given.get("alert") or ""
    if not alert:
        raise BadRequestError("alert: the alert's name is required")
    return alert


def _place_cordon(
    parts: AdminContext, name: str, given: Mapping[str, Any]
) -> dict[str, Any]:
    """Hold the node; returns what is told of its silence."""
    parts.view(name)
    minutes = given.get("minutes")
    if minutes is not None:
        check_range("minutes", minutes, 1, _LONGEST_CORDON_MINUTES)
    now = parts.clock()
    hold = Hold(
        node=name,
        kind=HoldKind.CORDON,
        source=_who(given),
        reason=given.get("reason") or "cordoned by an operator",
        since=now,
        until=None if minutes is None else now + minutes * 60,
    )
    parts.holds.place(hold, _actor())
    return _silence(parts, hold) if given.get("silence") else {}


def _silence(parts: AdminContext, cordon: Hold) -> dict[str, Any]:
    """Post a silence; the cordon stands already, and stands whatever comes of it."""
    try:
        if parts.silences is None:
            raise SilenceError("no alertmanager is configured")  # noqa: TRY301
        silence = parts.silences.post(cordon)
    except SilenceError as error:
        log.warning("not_silenced", node=cordon.node, why=str(error))
        return {"silence": {"error": str(error)}}
    parts.holds.place(replace(cordon, labels={SILENCE: silence.id}), _actor())
    return {"silence": {"id": silence.id, "until": iso(silence.until)}}


def _lift_silences(parts: AdminContext, held: Iterable[Hold]) -> dict[str, Any]:
    ids = [hold.labels[SILENCE] for hold in held if SILENCE in hold.labels]
    if not ids or parts.silences is None:
        return {}
    lifted, errors = [], []
    for silence in ids:
        try:
            parts.silences.lift(silence)
            lifted.append(silence)
        except SilenceError as error:
            log.warning("silence_not_lifted", silence=silence, why=str(error))
            errors.append(f"{silence}: {error}")
    reported: dict[str, Any] = {"lifted": lifted}
    return {"silence": reported | ({"error": "; ".join(errors)} if errors else {})}


def _lift(parts: AdminContext, held: list[Hold], given: Mapping[str, Any]) -> None:
    why = given.get("reason") or "lifted by an operator"
    for hold in held:
        parts.holds.lift(*hold.key, by=_who(given), why=why, actor=_actor())
