"""PromQL that several panels share; `$node` and such are the boards' variables."""

from __future__ import annotations

from grafana.panels import Query

NODE = 'node=~"$node"'
MODEL = 'model=~"$model"'
BOTH = f"{NODE}, {MODEL}"
GPU = f'{NODE}, uuid=~"$gpu"'

ROUTER_ZERO = '0 * sum(up{job="router"} == 1)'
NODE_ZERO = f"0 * max by (node) (inferops_node_schedulable{{{NODE}}})"


# The legend of a zero where a legend is made of labels: a line needs a name.
NONE_YET = "none yet"


def or_zero(expr: str, label: str = "") -> str:
    """Let "never happened" read 0 while the router answers, and nothing else.

    label: of the legend; says on the zero that it stands for none of its values

    A counter with labels has no series before its first event. `or vector(0)`
    would call a dead router an idle one. `on ()`: the zero goes once any series is
    there, or it would stay as a line without a name.
    """
    return f"{expr} or on () {_named(ROUTER_ZERO, label)}"


def or_node_zero(expr: str, label: str = "") -> str:
    """The same for each node that the router knows; `expr` has the label node."""
    return f"{expr} or on (node) {_named(NODE_ZERO, label)}"


def _named(zero: str, label: str) -> str:
    return f'label_replace({zero}, "{label}", "{NONE_YET}", "", "")' if label else zero


def rate(counter: str, matchers: str = "", *, by: str = "") -> str:
    """Events per second, by some labels or in all."""
    group = f"sum by ({by}) " if by else "sum"
    selector = f"{{{matchers}}}" if matchers else ""
    return f"{group}(rate({counter}{selector}[$__rate_interval]))"


def quantile(share: float, histogram: str, matchers: str = "", *, by: str = "") -> str:
    """A histogram's quantile; nothing, instead of NaN, where nothing was observed."""
    labels = f"le, {by}" if by else "le"
    buckets = rate(f"{histogram}_bucket", matchers, by=labels)
    return f"histogram_quantile({share}, {buckets}) >= 0"


def percentiles(histogram: str, *shares: float) -> list[Query]:
    """Give a line for each of these shares."""
    return [Query(quantile(share, histogram), f"p{share:.0%}"[:-1]) for share in shares]


# Rates over 1 min that prometheus/records/traffic.yml makes each 15 s: a histogram's
# raw buckets cost Prometheus more than all else on a board.
RECORD_STEP = "15s"
FIRST_BUCKETS = "node:first_token_buckets:rate1m"
PACE_BUCKETS = "node:token_time_buckets:rate1m"
LOAD_BUCKETS = "node:load_buckets:rate1m"
ATTEMPTS = "node:attempts:rate1m"
LENGTH_BUCKETS = "node:reply_tokens_buckets:rate1m"


def recorded_quantile(share: float, buckets: str, matchers: str, by: str) -> str:
    """A quantile of such a record; nothing, instead of NaN, where all was still."""
    rates = f"sum by (le, {by}) ({buckets}{{{matchers}}})"
    return f"histogram_quantile({share}, {rates}) >= 0"


def tokens(matchers: str, *, by: str, steady: bool = False) -> str:
    """Tokens per second, by the same record; `steady`: their mean between points."""
    rates = f"node:tokens:rate1m{{{matchers}}}"
    if steady:
        rates = f"avg_over_time({rates}[$__rate_interval])"
    return f"sum by ({by}) ({rates})"


def per_node(series: str, aggregate: str = "max") -> str:
    """One series for each chosen node, whichever target exported it."""
    return f"{aggregate} by (node) ({series}{{{NODE}}})"


# What may be said of a node at the same time, as bits of one number: kinds of holds,
# and that a node which came back gets its slots one by one. The parts differ in their
# labels: `or` keeps each, and the sum adds them up.
HOLD_BITS = {"cordon": 1, "drain": 2, "down": 4, "evict": 8, "derate": 16}
STATE_BITS = {**HOLD_BITS, "returning": 32}
SLOW_START = f"max by (node) (inferops_node_slow_start_ratio{{{NODE}}})"
STATES = "sum by (node) (\n{}\n)".format(
    "\n  or\n".join(
        (
            *(
                f"    {bit} * max by (node, kind)"
                f' (inferops_node_hold{{{NODE}, kind="{kind}"}})'
                for kind, bit in HOLD_BITS.items()
            ),
            f"    {STATE_BITS['returning']} * ({SLOW_START} < bool 1)",
            f"    {NODE_ZERO}",
        )
    )
)

# A request failed for its client: a 5xx, or a reply that broke off after its 200.
# The two selections overlap: `or` counts a series of both once.
FAILED = 'code=~"5.."'
BROKEN = 'outcome=~"eof|error_line|stalled|shutdown"'
ERROR_RATIO = or_zero(f"""\
sum(
    rate(inferops_requests_total{{{FAILED}}}[$__rate_interval])
  or
    rate(inferops_requests_total{{{BROKEN}}}[$__rate_interval])
)
/
(sum(rate(inferops_requests_total[$__rate_interval])) > 0)""")


def serving(series: str) -> str:
    """The sum over the nodes that take work; 0 where none does."""
    taking = f"{series} and on (node) (inferops_node_schedulable == 1)"
    return f"(sum({taking}) or 0 * sum({series}))"
