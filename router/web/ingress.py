"""The application as gunicorn calls it: what every request passes, in order.

By which name the router is asked (`hosts`), from which web page (`cors`), by whom
(`authentication`); one function, so that a request passes no layers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from router.access.principal import Principal
from router.errors import RequestError
from router.web.access import area_of
from router.web.authentication import PRINCIPAL, refuse_unknown
from router.web.caller import from_loopback
from router.web.cors import Origins, preflight, readable_by, same_site
from router.web.hosts import Hosts, foreign_host
from router.web.refusal import refuse

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


class Ingress:
    """In front of every route; costs a request of a program two look-ups.

    authenticate: returns who sends a request; raises RequestError
    refused:      given the reason of each request that is sent away
    """

    def __init__(
        self,
        app: WSGIApplication,
        *,
        hosts: Hosts,
        origins: Origins,
        authenticate: Callable[[WSGIEnvironment], Principal],
        refused: Callable[[str], None],
    ) -> None:
        self._app = app
        self.hosts = hosts
        self.origins = origins
        self._authenticate = authenticate
        self._refused = refused

    def __call__(
        self, environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        hosts, host = self.hosts, environ.get("HTTP_HOST", "")
        if host not in hosts and (hosts.everywhere or from_loopback(environ)):
            self._refused("foreign_host")
            return refuse(foreign_host(host), environ, start_response)
        origin = environ.get("HTTP_ORIGIN")
        if origin and not same_site(origin, environ):
            if error := self.origins.refusal(origin, area_of(environ["PATH_INFO"])):
                return refuse(error, environ, start_response)
            if environ["REQUEST_METHOD"] == "OPTIONS":
                return preflight(origin, environ, start_response)
            start_response = readable_by(origin, start_response)
        try:
            environ[PRINCIPAL] = self._authenticate(environ)
        except RequestError as error:
            self._refused(error.code)
            return refuse_unknown(error, environ, start_response)
        return self._app(environ, start_response)
