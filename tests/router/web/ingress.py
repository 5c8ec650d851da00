"""What every request passes, in front of an application, with nobody to know."""

from __future__ import annotations

from router.access.principal import anonymous
from router.web.cors import Origins
from router.web.hosts import Hosts
from router.web.ingress import Ingress


def ingress(app, hosts: Hosts, origins: Origins | None = None, refused=lambda _: None):
    return Ingress(
        app,
        hosts=hosts,
        origins=origins or Origins(),
        authenticate=lambda _: anonymous(""),
        refused=refused,
    )
