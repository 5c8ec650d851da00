"""The board "Routing": who gets which share, where time goes, what went wrong."""

from __future__ import annotations

from grafana import promql
from grafana.board import Board
from grafana.grid import Band, Section
from grafana.panels import Field, Json, Query, timeseries
from grafana.promql import NODE, or_zero, per_node, rate
from grafana.variables import NODE as NODE_VARIABLE

# Shares of all nodes, the chosen ones picked afterwards: a share of a choice lies.
TRAFFIC = (
    f"sum by (node) ({promql.ATTEMPTS}) / scalar(sum({promql.ATTEMPTS}) > 0)"
)  # fmt: skip
SCORES = (
    "max by (node) (inferops_node_score and on (node) inferops_node_schedulable == 1)"
)
SCORE_SHARE = f"{SCORES} / scalar(sum({SCORES}))"


def chosen(expr: str) -> str:
    return f"({expr}) and on (node) inferops_node_score{{{NODE}}}"


def routing() -> Board:
    return Board(
        "router",
        "Routing",
        "How the router spreads work, what each part of a request's time is, and what "
        "it had to repair.",
        (
            Section("Balance", Band(8, _shares(), _balance(), in_flight())),
            Section(
                "Where time goes",
                Band(8, _phases(), _first_token(), _duration()),
                Band(8, _queue_length(), _queue_wait(), _external()),
                Band(8, _policies(), _reasons(), _prediction_error()),
            ),
            Section(
                "Outcomes",
                Band(8, _requests(), attempts_by_node()),
                Band(8, _troubles(), _continuations(), _pauses()),
                Band(7, _evictions(), _ceilings()),
            ),
        ),
        (NODE_VARIABLE,),
    )


def _shares() -> Json:
    return timeseries(
        "Traffic share beside score share",
        "What part of all attempts a node gets, and dashed what part of all scores it "
        "has. They part where models, slots or speed say more than the score.",
        [
            Query(chosen(TRAFFIC), "{{node}} traffic", promql.RECORD_STEP),
            Query(chosen(SCORE_SHARE), "{{node}} score", promql.RECORD_STEP),
        ],
        Field("percentunit", 0, low=0, high=1, empty="no requests"),
        dashed="/ score$/",
    )


def _balance() -> Json:
    used = "max by (node) (inferops_in_flight) / (max by (node) (inferops_slots) > 0)"
    ratio = f"max({used}) / (avg({used}) > 0)"
    return timeseries(
        "Balance ratio",
        "The fullest node's share of slots in use over the mean of all. 1: all are as "
        "full. As many as there are nodes: one has everything.",
        [Query(ratio, "fullest / mean")],
        Field("none", 2, low=0, empty="idle"),
    )


def _phases() -> Json:
    wait = "inferops_queue_wait_seconds"
    replies = "inferops_reply_phase_seconds_total"
    answered = rate("inferops_requests_total", f'{NODE}, outcome="end"')
    return timeseries(
        "Mean time of a reply by phase",
        "Queue in the router, then as the nodes report it: load, prompt (prefill), "
        "generate (decode), and wait for the rest. Streams on /v1 report none.",
        [
            Query(f"{rate(f'{wait}_sum')} / ({rate(f'{wait}_count')} > 0)", "queue"),
            Query(
                f"{rate(replies, NODE, by='phase')}\n"
                f"/ on () group_left ()\n({answered} > 0)",
                "{{phase}}",
            ),
        ],
        Field("s", 2, low=0, empty="no requests"),
        stacked=True,
    )


def _policies() -> Json:
    replies = "inferops_scheduled_seconds_count"
    by_policy = rate(replies, 'stage="completion"', by="picker")
    return timeseries(
        "Whole replies by the policy that chose",
        "Per second. Another policy than usual: one that was set for a model, or that "
        "requests asked for, to compare it.",
        [Query(by_policy, "{{picker}}")],
        Field("reqps", 2, low=0, empty="no whole reply"),
        stacked=True,
    )


def _reasons() -> Json:
    return timeseries(
        "Decisions by reason",
        "Per second. chosen: the policy's choice of several nodes. only_free: no other "
        "had a slot. freed: it waited for any slot. held_back: a slot was free, and a "
        "quicker node was waited for. loads: the node loads the model for it. trial: "
        "every node that could take it has failed recently.",
        [Query(rate("inferops_decisions_total", by="reason"), "{{reason}}")],
        Field("reqps", 2, low=0, empty="no request"),
        stacked=True,
    )


def _prediction_error() -> Json:
    return timeseries(
        "Prediction error",
        "Mean absolute error over what then happened: of the time to the first token, "
        "of the completion, and of the answer's length.",
        [
            Query(_missed("inferops_prediction_seconds_total", "stage"), "{{stage}}"),
            Query(_missed("inferops_prediction_tokens_total", ""), "answer length"),
        ],
        Field("percentunit", 0, low=0, empty="nothing predicted yet"),
    )


def _missed(totals: str, by: str) -> str:
    error, actual = (
        rate(totals, f'kind="{kind}"', by=by) for kind in ("absolute_error", "actual")
    )
    return f"{error}\n/\n({actual} > 0)"


def _external() -> Json:
    return timeseries(
        "Work of others on the nodes",
        "Streams that the router did not send, as suspected from a node's speed, and "
        "those that an earlier router left.",
        [
            Query(per_node("inferops_external_streams"), "{{node}} others"),
            Query(per_node("inferops_recovered_streams"), "{{node}} recovered"),
        ],
        Field("none", 1, low=0, empty="no router"),
    )


def _continuations() -> Json:
    resent = rate("inferops_continuation_resent_tokens_total")
    moved = rate("inferops_failovers_total", 'phase="mid_stream"', by="outcome")
    return timeseries(
        "Streams whose node failed",
        "Per second by what became of them; and the tokens of text that other nodes "
        "had to read again for it.",
        [
            Query(or_zero(moved, "outcome"), "{{outcome}}"),
            Query(or_zero(resent), "tokens read again"),
        ],
        Field("cps", 3, low=0, empty="no router"),
    )


def _pauses() -> Json:
    return timeseries(
        "Pause of a continued stream",
        "From the break to the first line from another node: what its reader sees.",
        promql.percentiles("inferops_continuation_pause_seconds", 0.5, 0.95),
        Field("s", 2, low=0, empty="no stream was continued"),
    )


def _evictions() -> Json:
    moved = rate("inferops_evictions_total", NODE, by="node")
    return timeseries(
        "Requests moved off a node",
        "Per second, by evict: its alert says that streams there will not end well.",
        [Query(promql.or_node_zero(moved), "{{node}}")],
        Field("cps", 3, low=0, empty="no router"),
    )


def _ceilings() -> Json:
    return timeseries(
        "Slots and their ceiling",
        "Slots that are used now, and dashed the most a node is given. What is learned "
        "may be less than what is configured.",
        [
            Query(per_node("inferops_slots"), "{{node}}"),
            Query(per_node("inferops_slot_ceiling"), "{{node}} ceiling"),
        ],
        Field("none", 0, low=0, empty="no router"),
        dashed="/ ceiling$/",
    )


def in_flight() -> Json:
    return timeseries(
        "In flight by node",
        "Requests on each node, and dashed the slots in use now: the router never "
        "sends more. A line that lies on its slots is a node that is full.",
        [
            Query(per_node("inferops_in_flight"), "{{node}}"),
            Query(per_node("inferops_slots"), "{{node}} slots"),
        ],
        Field("none", 0, low=0),
        dashed="/ slots$/",
    )


def _queue_length() -> Json:
    return timeseries(
        "Queue",
        "Requests that wait for a slot, by priority.",
        [Query("sum by (priority) (inferops_queue_length)", "{{priority}}")],
        Field("none", 0, low=0),
        stacked=True,
    )


def _queue_wait() -> Json:
    wait = promql.quantile(0.95, "inferops_queue_wait_seconds", by="priority")
    nobody = "0 * max by (priority) (inferops_queue_length)"
    return timeseries(
        "Queue wait, p95",
        "How long 95 % of requests waited at most; 0 where nobody did.",
        [Query(f"{wait} or {nobody}", "{{priority}}")],
        Field("s", 2, low=0),
    )


def _requests() -> Json:
    requests = promql.rate("inferops_requests_total", by="outcome, code")
    return timeseries(
        "Requests by outcome",
        "Requests per second by how they ended and the status the client saw.",
        [Query(promql.or_zero(requests, "code"), "{{outcome}} {{code}}")],
        Field("reqps", 2, low=0),
        stacked=True,
    )


def attempts_by_node() -> Json:
    attempts = promql.or_node_zero(f"{promql.ATTEMPTS}{{{NODE}}}", "outcome")
    return timeseries(
        "Attempts by node",
        "Attempts per second, over a minute; more than one for a request is failover. "
        "A node whose attempts end in errors is about to be held as down.",
        [Query(attempts, "{{node}} {{outcome}}", promql.RECORD_STEP)],
        Field("reqps", 2, low=0),
        stacked=True,
    )


def _troubles() -> Json:
    def rate_or_zero(counter: str, labels: str) -> str:
        label = labels.rpartition(" ")[-1]
        return promql.or_zero(promql.rate(counter, by=labels), label)

    return timeseries(
        "Retries, failovers, rejections",
        "Per second, by reason. Rejections are what clients get as 429 or 503: "
        "the fleet is full, or nothing may serve the model.",
        [
            Query(rate_or_zero("inferops_retries_total", "reason"), "retry {{reason}}"),
            Query(
                rate_or_zero("inferops_failovers_total", "phase, outcome"),
                "failover {{phase}} {{outcome}}",
            ),
            Query(
                rate_or_zero("inferops_rejections_total", "reason"),
                "rejection {{reason}}",
            ),
        ],
        Field("reqps", 2, low=0),
    )


def _first_token() -> Json:
    return timeseries(
        "Time to first token by node, p95",
        "A gap: nobody asked. One node above the others: it loads "
        "models, or it is slow; compare its score parts.",
        [
            Query(
                f"node:first_token:seconds_p95_1m{{{NODE}}}",
                "{{node}}",
                promql.RECORD_STEP,
            )
        ],
        Field("s", 2, low=0),
    )


def _duration() -> Json:
    series = "inferops_request_duration_seconds"
    return timeseries(
        "Request duration by route",
        "From arrival to the last byte. It grows with the tokens asked for, so it "
        "says less about the fleet than the time to first token does.",
        [
            Query(promql.quantile(0.5, series, by="route"), "{{route}} p50"),
            Query(promql.quantile(0.95, series, by="route"), "{{route}} p95"),
        ],
        Field("s", 2, low=0),
    )
