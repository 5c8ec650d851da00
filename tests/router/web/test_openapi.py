"""The description has each route that is served, once, and says who may use it."""

from __future__ import annotations

from router.relay.protocols import ROUTES
from router.web.access import scopes_of
from router.web.access_page import served
from router.web.openapi import described
from router.web.operations import OPERATIONS


def test_every_route_has_an_entry():
    """A route that is added must be described, and no entry outlives its route."""
    own = {f"{method} {path}" for path, method in served() if path not in ROUTES}
    assert own == set(OPERATIONS)


def test_says_who_may():
    """Scopes are those that are asked for; where none is, no key is needed."""
    paths = described(served(), "1")["paths"]
    for path, method in served():
        shown = path.replace("<int:", "{").replace("<path:", "{")
        shown = shown.replace("<", "{").replace(">", "}")
        made = paths[shown][method.lower()]
        names = {name for each in made["security"] for (name,) in each.values()}
        assert names == {scope.value for scope in scopes_of(path, method) or ()}
        assert ("401" in made["responses"]) is bool(names) or path == "/jobs/login"
    operations = [
        each["operationId"] for path in paths.values() for each in path.values()
    ]
    assert len(operations) == len(set(operations)) == len(list(served()))
