"""Every state that the router knows is shown as what it is, in every panel.

A value that a panel has no words for is shown by the panel's first colour, which is
green: what nobody thought of would look well.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from grafana import jobs, promql, states
from router.jobs.model import JobState
from router.model import Degrade, HoldKind, HoldState
from tests.harness import grafana

# A node that came back gets its slots one by one: beside the kinds of holds.
NODE_STATES = {*(kind.value for kind in HoldKind), "returning"}
BITS = [promql.STATE_BITS.get(state, 0) for state in NODE_STATES]
STATES_OF_NODES = {
    sum(chosen)
    for count in range(len(BITS) + 1)
    for chosen in itertools.combinations(BITS, count)
}
STEPS = {step.step for step in Degrade}
FLAG = {0, 1}

# What a mapped field may come to, and which of it is well, by panel and column.
STATES: dict[tuple[str, str], tuple[set[Any], set[Any]]] = {
    ("Nodes in detail", "state"): (STATES_OF_NODES, {0}),
    ("State by node", ""): (STATES_OF_NODES, {0}),
    ("Scores", ""): (STEPS, {Degrade.FRESH.step}),
    ("Scores go by", ""): (STEPS, {Degrade.FRESH.step}),
    ("Watchdog", ""): (FLAG, {1}),
    ("Panic", ""): (FLAG, {0}),
    ("Nodes in detail", "Ollama"): (FLAG, {1}),
    ("Targets answer", ""): (FLAG, {1}),
    ("Configuration loaded", ""): (FLAG, {1}),
    ("GPU telemetry works", ""): (FLAG, {1}),
    ("Job database", ""): (FLAG, {1}),
    ("Ollama answers", ""): (FLAG, {1}),
    ("Collectors work", ""): (FLAG, {1}),
    ("Where models are", ""): ({1, 2}, {2}),
    ("Alerts of the budgets", ""): ({1, 2}, set()),
    ("Holds now", "state"): ({state.value for state in HoldState}, set()),
    # a series exists only while it is one of these; Watchdog is meant to fire
    ("Alerts over time", ""): ({1, 2, 3, 4}, {4}),
    # any code of the driver counts 1; a failure to remap counts 2
    ("What the driver asks for", ""): ({0, 1, 2}, {0}),
}


class Mapped(NamedTuple):
    """A field with words for its values, and their colours."""

    panel: str
    column: str  # empty: the whole panel
    colours: dict[Any, str]
    words: dict[Any, str]


def mapped() -> Iterator[Mapped]:
    """Walk all panels of all boards, their columns included.

    A mapping without colours only spells a label: it names no state.
    """
    for dashboard in grafana.dashboards().values():
        for panel in grafana.panels(dashboard):
            fields = panel["fieldConfig"]
            yield from _read(panel, "", fields["defaults"].get("mappings", []))
            for override in fields["overrides"]:
                found = {each["id"]: each["value"] for each in override["properties"]}
                column = override["matcher"]["options"]
                yield from _read(panel, column, found.get("mappings", []))


def _read(panel: Any, column: str, mappings: list[Any]) -> Iterator[Mapped]:
    options = {
        int(value) if value.isdigit() else value: option
        for mapping in mappings
        for value, option in mapping["options"].items()
    }
    if any("color" in option for option in options.values()):
        yield Mapped(
            panel["title"],
            column,
            {value: option["color"] for value, option in options.items()},
            {value: option["text"] for value, option in options.items()},
        )


def name(each: Mapped) -> str:
    return f"{each.panel} {each.column}".strip()


every_mapped = pytest.mark.parametrize("field", list(mapped()), ids=name)


def test_each_state_of_a_node_has_a_bit() -> None:
    """One of its own, or two states would look like one."""
    assert set(promql.STATE_BITS) == NODE_STATES
    assert len(STATES_OF_NODES) == 2 ** len(NODE_STATES)


def test_each_single_state_has_its_own_colour_and_word() -> None:
    """Serving, each kind of hold, and returning: told apart by colour and by word."""
    single = [0, *promql.STATE_BITS.values()]
    words, colours = zip(*(states.NODE_WORDS[bits] for bits in single), strict=True)
    assert set(words) == {"serving", *NODE_STATES}
    assert len(set(colours)) == len(single)


def test_several_states_at_once_are_all_named() -> None:
    """The colour is the worst one's; the words leave none out."""
    for bits, (word, colour) in states.NODE_WORDS.items():
        found = [name for name, bit in promql.STATE_BITS.items() if bits & bit]
        assert set(word.split(", ")) == (set(found) or {"serving"})
        if found:
            worst = min(found, key=list(states.NODE_COLOURS).index)
            assert colour == states.NODE_COLOURS[worst]


@every_mapped
def test_each_state_has_words(field) -> None:
    """All that a field may come to, and no two states by one word."""
    states, _ = STATES[field.panel, field.column]
    assert field.words.keys() == states
    assert len(set(field.words.values())) == len(states)


@every_mapped
def test_only_what_is_well_is_green(field) -> None:
    """A node that is emptied, held or half used is not shown as one that serves."""
    _, well = STATES[field.panel, field.column]
    assert {v for v, colour in field.colours.items() if colour == "green"} == well


def test_no_state_is_left_over() -> None:
    """What is described above is shown somewhere."""
    assert {(each.panel, each.column) for each in mapped()} == STATES.keys()


def test_open_jobs_are_those_that_are_not_over() -> None:
    """Of the states of jobs, the panels count as open what the router has open."""
    found = re.search('"(.+)"', jobs.OPEN)
    assert found is not None
    still = {state.value for state in JobState if not state.over}
    assert set(found[1].split("|")) == still
