"""The variables of the boards; each list follows from the choices before it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from grafana.panels import DATASOURCE, Json


class Variable(Protocol):
    """A variable of a board."""

    @property
    def name(self) -> str: ...

    def render(self) -> Json: ...


@dataclass(frozen=True, slots=True)
class Chosen:
    """Values of a label, several at a time or all.

    every: the regular expression behind "All"
    """

    name: str
    label: str
    series: str
    value: str
    every: str = ".+"

    def render(self) -> Json:
        values = f"label_values({self.series}, {self.value})"
        return {
            "name": self.name,
            "label": self.label,
            "type": "query",
            "datasource": DATASOURCE,
            "definition": values,
            "query": {"query": values, "refId": self.name},
            "allValue": self.every,
            "current": {"text": ["All"], "value": ["$__all"]},
            "hide": 0,
            "includeAll": True,
            "multi": True,
            "options": [],
            "refresh": 2,  # on every change of the time range: nodes come and go
            "regex": "",
            "sort": 1,
        }


@dataclass(frozen=True, slots=True)
class Typed:
    """A value that people type, or that a link brings along."""

    name: str
    label: str
    value: str
    hidden: bool = False

    def render(self) -> Json:
        option = {"selected": True, "text": self.value, "value": self.value}
        return {
            "name": self.name,
            "label": self.label,
            "type": "textbox",
            "query": self.value,
            "current": option,
            "options": [option],
            "hide": 2 if self.hidden else 0,
        }


def datasource() -> Json:
    return {
        "name": "datasource",
        "label": "Data source",
        "type": "datasource",
        "query": "prometheus",
        "current": {"text": "Prometheus", "value": "prometheus"},
        "hide": 0,
        "includeAll": False,
        "multi": False,
        "options": [],
        "refresh": 1,
        "regex": "",
    }


NODE = Chosen("node", "Node", "inferops_node_score", "node")
GPU = Chosen(
    "gpu", "GPU", 'node_gpu:memory_total:bytes{node=~"$node"}', "uuid", every=".+"
)
# What a refused request asked for is no model of a node: "All" leaves it in.
MODEL = Chosen(
    "model", "Model", 'node:ollama_model:info{node=~"$node"}', "model", every=".*"
)
PRICE = Typed("price", "Price of a kWh", "0.30")
CO2 = Typed("co2", "g CO2 a kWh", "380")
# Where people's browsers reach the two; `?var-router_url=` in an address changes it.
ROUTER_URL = Typed("router_url", "Router", "http://127.0.0.1:8000", hidden=True)
PROMETHEUS_URL = Typed(
    "prometheus_url", "Prometheus", "http://127.0.0.1:9090", hidden=True
)
