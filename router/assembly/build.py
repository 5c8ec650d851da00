"""Builds the whole router from its configuration; starts nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from router.assembly.collectors import register_collectors
from router.assembly.control import ControlServices, build_control
from router.assembly.dispatch import DispatchServices, build_dispatch
from router.assembly.foundation import Foundation, lay_foundation
from router.assembly.jobs import JobServices, build_jobs
from router.assembly.readiness import Readiness
from router.assembly.reload import apply_inventory, apply_settings
from router.assembly.usage import UsageService, build_usage
from router.assembly.web import WebDependencies, WebServices, build_web
from router.audit.store import FILE as AUDIT_FILE
from router.config.settings import Config
from router.usage.store import FILE as USAGE_FILE


@dataclass(frozen=True, slots=True)
class RouterServices:
    """Everything that one router process owns."""

    base: Foundation
    dispatch: DispatchServices
    control: ControlServices
    usage: UsageService
    jobs: JobServices
    readiness: Readiness
    web: WebServices

    @property
    def config(self) -> Config:
        return self.base.config

    def apply_settings(self) -> None:
        """Take over settings that need no restart; streams are not touched."""
        apply_settings(self.base, self.dispatch)
        self.web.apply(self.config)
        self.apply_inventory()

    def apply_inventory(self) -> None:
        apply_inventory(self.base, self.dispatch, self.control)


def build_router(path: Path, environ: Mapping[str, str]) -> RouterServices:
    """Build it by the `router.yml` at `path`. Raises ConfigError."""
    base = lay_foundation(path, environ)
    dispatch = build_dispatch(base)
    control = build_control(base, dispatch)
    usage = build_usage(base, dispatch)
    base.health.other_files = {
        USAGE_FILE: lambda: usage.writer.fault,
        AUDIT_FILE: lambda: base.audit.trail.fault,
    }
    jobs = build_jobs(base, dispatch)
    register_collectors(base, dispatch, usage)
    readiness = Readiness(base)
    web = build_web(WebDependencies(base, dispatch, control, usage, jobs, readiness))
    services = RouterServices(base, dispatch, control, usage, jobs, readiness, web)
    services.apply_settings()
    return services
