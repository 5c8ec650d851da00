"""Builds what answers: checks in front, the inference routes, and Flask behind."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from flask import Flask

from router.access.sessions import Sessions
from router.assembly.access import Secret, operators, token_reader
from router.assembly.boards import build_boards
from router.assembly.control import ControlServices
from router.assembly.dispatch import DispatchServices
from router.assembly.foundation import Foundation
from router.assembly.inventory import add_entry
from router.assembly.jobs import JobServices
from router.assembly.readiness import Readiness
from router.assembly.reload import ingress_limits, reload_files
from router.assembly.usage import UsageService
from router.clients.http_json import ask
from router.config.settings import Config, JobSettings
from router.failover.light import LightCalls
from router.logs.events import RequestLog
from router.web.admin.context import AdminContext
from router.web.app import flask_app, own_paths
from router.web.authentication import Authentication
from router.web.caller import local
from router.web.cors import Origins
from router.web.hosts import Hosts
from router.web.inference.context import InferenceContext
from router.web.inference.handler import Inference
from router.web.ingress import Ingress
from router.web.jobs.routes import JobContext
from router.web.models import present_models
from router.web.pages import PageContext
from router.web.pages.login import LoginContext
from router.web.pages.usage import UsagePageContext
from router.web.routes import WebParts, blueprints


@dataclass(frozen=True, slots=True)
class WebDependencies:
    """What the routes work on."""

    base: Foundation
    dispatch: DispatchServices
    control: ControlServices
    usage: UsageService
    jobs: JobServices
    readiness: Readiness


@dataclass(frozen=True, slots=True)
class WebServices:
    """The application, outermost first, and what settings change in it."""

    app: Ingress
    inference: Inference

    def apply(self, config: Config) -> None:
        """Take over settings that need no restart."""
        self.inference.context.limits = ingress_limits(config)
        self.app.origins = Origins(config.web.origins)
        self.app.hosts = Hosts(config.web.hosts)


@dataclass(frozen=True, slots=True)
class _Access:
    """Who needs no key of the router's: what the admin routes and the keys share.

    trusts: whether only a person at this machine can have sent a request
    """

    admin_token: Secret
    trusts: Callable[[Mapping[str, Any]], bool]
    sessions: Sessions


def build_web(parts: WebDependencies) -> WebServices:
    """Build the application."""
    base, web = parts.base, parts.base.config.web

    def trusts(environ: Mapping[str, Any]) -> bool:
        """Named hosts mean a proxy in front, which may look like a person."""
        return not ingress.hosts.everywhere and local(environ)

    token = token_reader(base.config.admin.token_file)
    access = _Access(token, trusts, Sessions())
    inference = _inference(parts, _flask(parts, access))
    rejections = base.metrics.rejections
    ingress = Ingress(
        inference,
        hosts=Hosts(web.hosts),
        origins=Origins(web.origins),
        authenticate=_authentication(base, access).principal,
        refused=lambda why: rejections.labels(why).inc(),
    )
    return WebServices(ingress, inference)


def _flask(parts: WebDependencies, access: _Access) -> Flask:
    readiness = parts.readiness
    return flask_app(
        blueprints(_routes(parts, access)),
        parts.base.registry,
        readiness.not_ready,
        readiness.warnings,
    )


def _routes(parts: WebDependencies, access: _Access) -> WebParts:
    base, jobs = parts.base, parts.jobs

    def settings() -> JobSettings:
        return base.config.jobs

    return WebParts(
        admin=_admin(parts, access),
        published=base.published,
        find=parts.control.discovery.find,
        notifications=parts.control.notifications,
        webhook_token=token_reader(base.config.webhook.token_file),
        notified=lambda outcome: base.metrics.notifications.labels(outcome).inc(),
        service=jobs.service,
        settings=settings,
        jobs=JobContext(jobs.service, jobs.files, settings),
        pages=PageContext(
            jobs.service,
            models=lambda: present_models(base.published.current),
            max_file_bytes=lambda: settings().max_file_bytes,
        ),
        login=LoginContext(base.keys, access.sessions, time.time),
        boards=build_boards(base.config),
        usage=UsagePageContext(parts.usage.report, time.time),
    )


def _admin(parts: WebDependencies, access: _Access) -> AdminContext:
    base, dispatch, health = parts.base, parts.dispatch, parts.base.health
    return AdminContext(
        published=base.published,
        holds=base.holds,
        ledger=dispatch.ledger,
        dispatcher=dispatch.scheduler,
        traces=dispatch.traces,
        token=access.admin_token,
        reload=lambda confirmed: reload_files(base, confirmed=confirmed),
        add_entry=lambda entry: add_entry(base.files, base.config, entry),
        keys=base.keys,
        trusts=access.trusts,
        find=health.find,
        silences=health.silences,
        waits=health.waits,
        clock=health.clock,
        circuits=dispatch.traffic.circuits,
        usage=parts.usage.report,
        audit=base.audit.trail,
    )


def _inference(parts: WebDependencies, flask: Flask) -> Inference:
    base, control = parts.base, parts.control
    context = InferenceContext(
        failover=parts.dispatch.failover,
        metrics=base.metrics,
        traces=parts.dispatch.traces,
        limits=ingress_limits(base.config),
        light=LightCalls(
            base.published, base.holds, ask, unloaded=control.probe.look_at
        ),
        find=control.discovery.find,
        log=RequestLog(lambda: base.config.log),
        usage=parts.usage.ledger,
        audit=base.audit.trail,
        quotas=base.quotas,
        tracing=parts.dispatch.tracing,
    )
    return Inference(context, own=own_paths(flask), fallback=flask)


def _authentication(base: Foundation, access: _Access) -> Authentication:
    tokens = {
        "admin": access.admin_token,
        "metrics": token_reader(base.config.access.metrics_token_file),
    }
    trusted = operators(tokens, access.trusts)
    return Authentication(base.keys, access.sessions, trusted, time.time)
