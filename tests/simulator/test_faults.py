"""Faults as the control endpoint reads them."""

from __future__ import annotations

import pytest

from simulator.faults import NAMES, RUNNER_DIED, Cut, Error, FaultError, Hot, parse


@pytest.mark.parametrize("name", NAMES)
def test_every_fault_has_defaults(name):
    """Its name alone is enough."""
    assert parse({"fault": name}).fault == name


@pytest.mark.parametrize(
    ("document", "fault"),
    [
        ({"fault": "hot", "celsius": 91}, Hot(fault="hot", celsius=91.0)),
        (
            {"fault": "cut", "tokens": 0, "variant": "socket", "times": 2},
            Cut(fault="cut", tokens=0, variant="socket", times=2),
        ),
        ({"fault": "error"}, Error(fault="error", status=500, text=RUNNER_DIED)),
    ],
    ids=["hot", "cut", "error"],
)
def test_reads_details(document, fault):
    """Details replace the defaults."""
    assert parse(document) == fault


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([], "must be a JSON object, got []"),
        ({}, f"fault: must be one of {', '.join(NAMES)}, got None"),
        ({"fault": ["hot"]}, f"fault: must be one of {', '.join(NAMES)}, got ['hot']"),
        (
            {"fault": "hot", "celsius": "x"},
            "celsius: input should be a valid number, got 'x'",
        ),
        (
            {"fault": "hot", "celsius": 999},
            "celsius: input should be less than or equal to 200, got 999",
        ),
        (
            {"fault": "slow", "factor": 0},
            "factor: input should be greater than 0, got 0",
        ),
        (
            {"fault": "cut", "variant": "x"},
            "variant: input should be 'runner', 'clean', 'line' or 'socket', got 'x'",
        ),
        (
            {"fault": "hot", "colour": "red"},
            "colour: extra inputs are not permitted, got 'red'",
        ),
        (
            {"fault": "xid", "code": True},
            "code: input should be a valid integer, got True",
        ),
    ],
    ids=[
        "no object",
        "no name",
        "a list for a name",
        "no number",
        "out of range",
        "zero",
        "unknown variant",
        "unknown field",
        "a flag for a number",
    ],
)
def test_refuses_with_the_field_and_the_value(document, message):
    """Whoever injects a fault learns what to write."""
    with pytest.raises(FaultError) as caught:
        parse(document)
    assert str(caught.value) == message
