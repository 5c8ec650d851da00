"""Words and colours of every state; no two single states share either."""

from __future__ import annotations

from grafana import promql
from grafana.panels import (
    BLUE,
    GREEN,
    LIGHT_BLUE,
    ORANGE,
    PURPLE,
    RED,
    YELLOW,
    Field,
)

# What keeps work away, the worst first: it gives a node its colour.
NODE_COLOURS = {
    "down": RED,
    "evict": PURPLE,
    "drain": ORANGE,
    "cordon": BLUE,
    "derate": YELLOW,
    "returning": LIGHT_BLUE,
}


def _node_words(bits: int) -> tuple[str, str]:
    found = [state for state in NODE_COLOURS if bits & promql.STATE_BITS[state]]
    if not found:
        return "serving", GREEN
    return ", ".join(found), NODE_COLOURS[found[0]]


# By the sum of the bits of `promql.STATE_BITS`.
NODE_WORDS = {
    bits: _node_words(bits) for bits in range(sum(promql.STATE_BITS.values()) + 1)
}
NODE_STATE = Field("none", words=NODE_WORDS, empty="no router")
# How sure a hold is, by the label `state`.
HOLD_STATE = Field(
    "none",
    words={
        "provisional": ("notified, not confirmed", BLUE),
        "confirmed": ("confirmed", ORANGE),
        "unknown": ("not proven well yet", PURPLE),
    },
)
DEGRADE_WORDS = {
    0: ("fresh", GREEN),
    1: ("last good", BLUE),
    2: ("own figures only", ORANGE),
    3: ("static weights", RED),
}
YES_NO = {0: ("no", RED), 1: ("yes", GREEN)}
SCORE = Field("none", 2, low=0, high=1, empty="no router")
SCORE_STEPS = ((0.0, RED), (0.3, ORANGE), (0.6, GREEN))
RATIO = Field("percentunit", 0, low=0, high=1)
