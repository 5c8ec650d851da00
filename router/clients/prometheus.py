"""What the router asks Prometheus, as values of our own; knows no signal or alert.

The only importer of prometheus_api_client. That package does not cover
`/api/v1/rules`, so rules are read with `requests` over the same session. No
call is tried twice: the next pass of the loop is the retry.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NoReturn, Protocol, TypeVar

import urllib3
from prometheus_api_client import PrometheusConnect
from prometheus_api_client.exceptions import PrometheusApiClientException

from router.clients.session import Service, bound, open_session, reason
from router.errors import PrometheusError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Sample:
    """One series of an instant vector; `at` is the evaluation's time.

    `labels` are without the series' name. `value` may be NaN or infinite, as
    PromQL has them.
    """

    labels: Mapping[str, str]
    value: float
    at: float

    @property
    def finite(self) -> bool:
        return math.isfinite(self.value)


@dataclass(frozen=True, slots=True)
class AlertRule:
    """An alerting rule as Prometheus runs it.

    last_evaluation: unix seconds, Prometheus' clock; far in the past until the
                     first one
    """

    name: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    healthy: bool
    last_evaluation: float
    interval_seconds: float


@dataclass(frozen=True, slots=True)
class FiringAlert:
    """An alert that fires, as Prometheus has it; texts are filled in."""

    labels: Mapping[str, str]
    annotations: Mapping[str, str]


class Prometheus(Protocol):
    """What the control loop needs of Prometheus; raises PrometheusError."""

    def now(self) -> float:
        """Tell the time by Prometheus' own clock, in unix seconds."""

    def query(self, expression: str, at: float) -> tuple[Sample, ...]:
        """Evaluate an instant vector at one time."""

    def rules(self) -> tuple[AlertRule, ...]:
        """List the alerting rules that are loaded."""


class PrometheusClient:
    """Prometheus over HTTP."""

    def __init__(self, service: Service) -> None:
        self._url = service.url
        self._session = open_session(service)
        self._connect = PrometheusConnect(
            url=self._url,
            session=self._session,
            retry=urllib3.Retry(0),
            timeout=service.timeout_seconds,
        )
        bound(self._session, service)  # it mounted an adapter of its own

    def now(self) -> float:
        # Without `time`, Prometheus evaluates at its own clock.
        answer = self._ask("time()", {})
        if not _scalar(answer):
            _refuse("time()", answer)
        return _number(answer[1])

    def query(self, expression: str, at: float) -> tuple[Sample, ...]:
        answer = self._ask(expression, {"time": f"{at:.3f}"})
        if _scalar(answer):
            raise PrometheusError(f"{expression!r} yields a scalar, not series")
        try:
            return tuple(_sample(each) for each in answer)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise PrometheusError(f"{expression!r}: unexpected answer") from error

    def rules(self) -> tuple[AlertRule, ...]:
        return self._read("/api/v1/rules", _rules, type="alert")

    def firing(self) -> tuple[FiringAlert, ...]:
        """List what fires with an action.

        From the rules' own memory: it is there before it is sent to Alertmanager,
        which the series `ALERTS` is not always. Raises PrometheusError.
        """
        return self._read("/api/v1/alerts", _firing)

    def _read(self, path: str, read: Callable[[Any], T], **params: str) -> T:
        try:
            reply = self._session.get(f"{self._url}{path}", params=params)
            reply.raise_for_status()
            return read(reply.json()["data"])
        except OSError as error:  # requests' errors are of that kind
            raise PrometheusError(f"{self._url}{path}: {reason(error)}") from error
        except (KeyError, TypeError, ValueError) as error:
            raise PrometheusError(f"{path}: unexpected answer: {error!r}") from error

    def close(self) -> None:
        self._session.close()

    def _ask(self, expression: str, params: dict[str, str]) -> list[Any]:
        try:
            answer = self._connect.custom_query(expression, params=params)
        except PrometheusApiClientException as error:
            raise PrometheusError(f"{expression!r}: {str(error)[:300]}") from error
        except OSError as error:
            where = f"{self._url}, {expression!r}"
            raise PrometheusError(f"{where}: {reason(error)}") from error
        except (KeyError, TypeError, ValueError) as error:
            raise PrometheusError(f"{expression!r}: unexpected answer") from error
        return answer if isinstance(answer, list) else _refuse(expression, answer)


def _scalar(answer: Any) -> bool:
    # A scalar comes as [time, "value"], a vector as a list of objects.
    return len(answer) == 2 and isinstance(answer[1], str)


def _refuse(expression: str, answer: object) -> NoReturn:
    raise PrometheusError(f"{expression!r}: unexpected answer {str(answer)[:200]!r}")


def _number(text: str) -> float:
    return float(text.replace("Inf", "inf"))


def _sample(entry: Mapping[str, Any]) -> Sample:
    at, value = entry["value"]
    labels = {k: v for k, v in entry["metric"].items() if k != "__name__"}
    return Sample(labels, _number(value), float(at))


def _rules(data: Any) -> tuple[AlertRule, ...]:
    return tuple(
        _rule(rule, float(group["interval"]))
        for group in data["groups"]
        for rule in group["rules"]
        if rule["type"] == "alerting"
    )


def _firing(data: Any) -> tuple[FiringAlert, ...]:
    return tuple(
        FiringAlert(_texts(alert["labels"]), _texts(alert.get("annotations") or {}))
        for alert in data["alerts"]
        if alert["state"] == "firing" and alert["labels"].get("action")
    )


def _texts(value: Mapping[Any, Any]) -> Mapping[str, str]:
    return {str(name): str(text) for name, text in value.items()}


def _rule(entry: Mapping[str, Any], interval: float) -> AlertRule:
    return AlertRule(
        name=entry["name"],
        labels=entry.get("labels") or {},
        annotations=entry.get("annotations") or {},
        healthy=entry["health"] == "ok",
        last_evaluation=datetime.fromisoformat(entry["lastEvaluation"]).timestamp(),
        interval_seconds=interval,
    )
