"""What a YAML document is to the files of ours that hold settings and nodes."""

from __future__ import annotations

import math

import pytest

from router.config.yaml import parse
from router.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("~", None),
        ("yes", "yes"),
        ("0777", "0777"),
        ("1:30", "1:30"),
        ("2026-11-30", "2026-11-30"),
        ("24e9", 24e9),
        ("-7", -7),
        ("-.inf", -math.inf),
        ("False", False),
        ("'7'", "7"),
        ("!!str 7", "7"),
        ("!!float 7", 7.0),
        ("a: &x [1, {b: c}]\nd: *x", {"a": [1, {"b": "c"}], "d": [1, {"b": "c"}]}),
        ("{1: a, 1.5: b, null: c}", {1: "a", 1.5: "b", None: "c"}),
        ("<<: {a: 1}", {"<<": {"a": 1}}),
        ("|\n a\n b\n", "a\nb\n"),
    ],
)
def test_values(text, value):
    """YAML 1.2's core schema, whatever way it is written."""
    assert value == parse(text, "x")


@pytest.mark.parametrize(
    ("text", "value"),
    [("2", "2"), ("'2'", "2"), ("!!int 2", "2"), ("true", "true"), ("", None)],
)
def test_as_written(text, value):
    """Text stays as Prometheus would read it."""
    assert value == parse(text, "x", as_written=True)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: 1\nb: 2\na: 3", "line 3, column 1: duplicate key, got 'a'"),
        ("a: *b", "line 1, column 4: undefined alias, got 'b'"),
        ("--- 1\n--- 2", "line 2, column 1: must be one document"),
        ("[a]: 1", "line 1, column 1: a key must be text or a number"),
        ("!!set {a}", "line 1, column 1: unknown tag, got 'tag:yaml.org,2002:set'"),
        ("!!python/name:os.system", "line 1, column 1: unknown tag"),
        ("!!int a", "line 1, column 1: must be int, got 'a'"),
        ("a: [1", "line 2, column 1: not YAML: did not find expected"),
        ("ä: \x01", "line 1: not YAML: control characters are not allowed"),
        ("1" * 5000, "not YAML: Exceeds the limit"),
        ("[" * 101 + "]" * 101, "line 1, column 101: nested too deeply"),
        ("[" * 200_000, "line 1, column 101: nested too deeply"),
    ],
)
def test_refused(text, told):
    """With its place, and before it costs more than its size."""
    with pytest.raises(ConfigError) as caught:
        parse(text, "x.yml")
    assert f"x.yml: {told}" in str(caught.value)


def test_many_names_for_one_thing_cost_nothing():
    """An alias is the same object each time: a bomb of them has no size."""
    text = "- &a0 [x]\n" + "".join(
        f"- &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 30)
    )
    made = parse(text, "x")
    assert made[29][0] is made[28]
