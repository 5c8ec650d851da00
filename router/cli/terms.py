"""The fields of a job, read from the arguments of `inferops jobs run`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from router.cli.client import CliError
from router.cli.outcome import Exit

# Arguments that the router takes under the same name.
_SAME = (
    *("model", "format", "name", "bad_lines", "preemption", "attempts", "window"),
    *("zone", "nodes", "completion_window", "encoding", "delimiter", "header"),
)
_OF_REDUCERS = ("threshold", "samples", "field", "separator")


def fields_of(given: Mapping[str, Any]) -> dict[str, str]:
    """Return the form's fields; the router has the defaults of what is not given."""
    found: dict[str, Any] = {name: given.get(name) for name in _SAME}
    found["template"] = text_of(given["template"])
    found["system"] = text_of(given.get("system"))
    found["options"] = options_of(given.get("option", ())) or None
    found["reducer"] = reducer_of(given)
    return {
        name: value if isinstance(value, str) else orjson.dumps(value).decode()
        for name, value in found.items()
        if value is not None
    }


def reducer_of(arguments: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the reducer's object; its arguments need a reducer."""
    found: dict[str, Any] = {name: arguments.get(name) for name in _OF_REDUCERS}
    found["prompt"] = text_of(arguments.get("merge_prompt"))
    given = {name: value for name, value in found.items() if value is not None}
    kind = arguments.get("reducer")
    if kind is None:
        if given:
            name = next(iter(given)).replace("prompt", "merge-prompt")
            raise CliError(f"--{name} needs a --reducer", Exit.USAGE)
        return None
    return {"kind": kind, **given}


def text_of(given: str | None) -> str | None:
    """Read `@FILE`; everything else is the text itself."""
    if given is None or not given.startswith("@"):
        return given
    try:
        return Path(given[1:]).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CliError(f"{given[1:]!r} cannot be read: {error}", Exit.USAGE) from error


def options_of(given: Sequence[str]) -> dict[str, Any]:
    """Parse `temperature=0.2`: the value as JSON, otherwise as text."""
    found: dict[str, Any] = {}
    for each in given:
        name, equals, value = each.partition("=")
        if not equals or not name:
            raise CliError(f"--option must be NAME=VALUE, got {each!r}", Exit.USAGE)
        try:
            found[name] = orjson.loads(value)
        except orjson.JSONDecodeError:
            found[name] = value
    return found
