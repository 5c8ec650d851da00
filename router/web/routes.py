"""Every route beside inference, in one list: what is served is what is documented."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from flask import Blueprint

from router.alerts.notify import NotificationHandler
from router.config.settings import JobSettings
from router.jobs.service import JobService
from router.snapshot import Published
from router.web.admin.context import AdminContext
from router.web.admin.routes import admin_blueprint
from router.web.boards import BoardContext, boards_blueprint
from router.web.jobs.openai_batches import batches_blueprint
from router.web.jobs.openai_files import files_blueprint
from router.web.jobs.routes import JobContext, jobs_blueprint
from router.web.models import Find, fleet_blueprint
from router.web.pages import PageContext, pages_blueprint
from router.web.pages.login import LoginContext, login_blueprint
from router.web.pages.usage import UsagePageContext, usage_blueprint
from router.web.webhook import webhook_blueprint


@dataclass(frozen=True, slots=True)
class WebParts:
    """What the routes work with.

    find:          has the nodes asked for a model that none is known to have
    webhook_token: gives Alertmanager's; None where none is configured
    notified:      told what each notified alert came to
    """

    admin: AdminContext
    published: Published
    find: Find
    notifications: NotificationHandler
    webhook_token: Callable[[], str | None]
    notified: Callable[[str], None]
    service: JobService
    settings: Callable[[], JobSettings]
    jobs: JobContext
    pages: PageContext
    login: LoginContext
    boards: BoardContext
    usage: UsagePageContext


def blueprints(parts: WebParts) -> list[Blueprint]:
    """Build all of them."""
    return [
        admin_blueprint(parts.admin),
        fleet_blueprint(parts.published, parts.find),
        webhook_blueprint(parts.notifications, parts.webhook_token, parts.notified),
        files_blueprint(parts.service, parts.jobs.limits),
        batches_blueprint(parts.service, parts.settings),
        jobs_blueprint(parts.jobs),
        pages_blueprint(parts.pages),
        login_blueprint(parts.login),
        boards_blueprint(parts.boards),
        usage_blueprint(parts.usage),
    ]
