"""Services of the telemetry, as settings name them."""

from __future__ import annotations

from router.clients.session import Service
from router.config.settings import ServiceSettings
from router.model import Access


def service(settings: ServiceSettings) -> Service:
    """Say where it is and how we show who we are."""
    access = Access(
        username=settings.username,
        password_file=settings.password_file,
        token_file=settings.token_file,
        ca_file=settings.ca_file,
    )
    return Service(settings.url, settings.timeout_seconds, access)
