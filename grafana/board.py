"""The frame of every board: variables, annotations, links, and a uid.

The uid is `inferops-` and the `component` of the alerts that the board explains, so
that an alert leads to its board by one label.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from grafana import links, marks
from grafana.grid import Section, layout
from grafana.panels import Json
from grafana.variables import PROMETHEUS_URL, ROUTER_URL, Variable, datasource

# What Grafana 11.6 writes; 12 and 13 migrate it on load, 10 reads it as it is.
SCHEMA_VERSION = 41
TAG = "inferops"


@dataclass(frozen=True, slots=True)
class Board:
    """A board before it is laid out.

    component: of the alerts that lead here
    variables: in the order of their chain, the datasource left out
    most_points: over time, of a panel; None: as many as it is wide. Prometheus 2 takes
                 as long for a point as for reading it, and 200 are one in 3 pixels
    """

    component: str
    title: str
    about: str
    sections: Sequence[Section]
    variables: Sequence[Variable] = ()
    since: str = "now-30m"
    refresh: str = "10s"
    most_points: int | None = 200
    extra: Sequence[Variable] = field(default=(ROUTER_URL, PROMETHEUS_URL))

    @property
    def uid(self) -> str:
        return links.uid(self.component)

    def render(self) -> Json:
        chosen = [*self.variables, *self.extra]
        names = [each.name for each in self.variables]
        return {
            "id": None,
            "uid": self.uid,
            "title": self.title,
            "description": self.about,
            "tags": [TAG],
            "schemaVersion": SCHEMA_VERSION,
            "version": 1,
            "editable": False,
            "graphTooltip": 1,
            "refresh": self.refresh,
            "time": {"from": self.since, "to": "now"},
            "timepicker": {},
            "timezone": "browser",
            "links": [links.between_boards(TAG)],
            "annotations": {"list": marks.of(by_node="node" in names)},
            "templating": {"list": [datasource(), *(each.render() for each in chosen)]},
            "panels": [
                links.linked(self._bounded(panel), self.component, names)
                for panel in layout(self.sections)
            ],
        }

    def _bounded(self, panel: Json) -> Json:
        if self.most_points and any(t["range"] for t in panel.get("targets", ())):
            panel.setdefault("maxDataPoints", self.most_points)
        return panel
