"""OpenTelemetry's GenAI metrics beside the router's own, where a setting asks for them.

Names, edges and labels are those of the GenAI semantic conventions as Prometheus
writes them. Requests of clients only: a job's items have metrics of their own.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from router.capacity.ledger import Lease
from router.metrics.plain import PlainHistogram
from router.metrics.replies import seconds_per_token
from router.model import Outcome, Timings
from router.relay.protocols import ROUTES
from router.usage.account import UsageAccount

# As the conventions advise them.
_SECONDS = tuple(0.01 * 2.0**power for power in range(14))
_FIRST = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1),
    *(0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
)
_PER_TOKEN = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
_TOKENS = tuple(4.0**power for power in range(14))

_PROVIDER = "ollama"
_COMMON = ("gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model")


class GenAiMetrics:
    """Counts at the end of leases and of requests."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def histogram(
            name: str, text: str, edges: tuple[float, ...], *labels: str
        ) -> PlainHistogram:
            named = (*_COMMON, *labels)
            return PlainHistogram(
                f"gen_ai_{name}", text, named, edges, registry=registry
            )

        self._duration = histogram(
            "server_request_duration_seconds",
            "From a request's arrival to its last byte; error_type is empty where it"
            " ended well.",
            _SECONDS,
            "error_type",
        )
        self._first = histogram(
            "server_time_to_first_token_seconds",
            "From a request's arrival to the first line of its stream.",
            _FIRST,
        )
        self._per_token = histogram(
            "server_time_per_output_token_seconds",
            "A reply's time for each token after the first.",
            _PER_TOKEN,
        )
        self._tokens = histogram(
            "client_token_usage",
            "Tokens of a request, of all its attempts, as the nodes count them.",
            _TOKENS,
            "gen_ai_token_type",
        )

    def lease_ended(
        self,
        lease: Lease,
        outcome: Outcome,
        timings: Timings | None,
        now: float,
    ) -> None:
        """Take in an attempt that ended well."""
        account = lease.account
        if account is None or outcome is not Outcome.END:
            return
        operation = _operation(account)
        if not operation:
            return
        common = operation, _PROVIDER, lease.model
        if lease.first_token_seconds is not None:
            self._first.labels(*common).observe(lease.first_token_seconds)
        pace = (
            seconds_per_token(lease.decoding_since, timings, now) if timings else None
        )
        if pace is not None:
            self._per_token.labels(*common).observe(pace)

    def request_ended(self, account: UsageAccount) -> None:
        """Take in a request that is over."""
        operation = _operation(account)
        if not operation:
            return
        common = operation, _PROVIDER, account.model
        error = "" if account.outcome == Outcome.END else account.outcome
        self._duration.labels(*common, error).observe(account.seconds)
        if account.tokens_in:
            self._tokens.labels(*common, "input").observe(account.tokens_in)
        if account.tokens_out:
            self._tokens.labels(*common, "output").observe(account.tokens_out)


def _operation(account: UsageAccount) -> str:
    route = ROUTES.get(account.path)
    return route.operation if route else ""
