"""A job's terms, out of the arguments of `inferops batch run`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import orjson

from router.cli.client import CliError
from router.cli.outcome import Exit

# Arguments that the router takes under the same name.
_SAME = (
    *("model", "format", "name", "bad_lines", "give_way", "attempts", "window"),
    *("zone", "nodes", "completion_window"),
)
_OF_REDUCERS = ("threshold", "samples", "field", "separator")


def fields_of(asked: argparse.Namespace) -> dict[str, str]:
    """Give the form's fields; what was not given is left to the router."""
    found: dict[str, Any] = {name: getattr(asked, name) for name in _SAME}
    found["template"] = text_of(asked.template)
    found["system"] = text_of(asked.system)
    found["options"] = options_of(asked.option) or None
    found["reducer"] = reducer_of(asked)
    return {
        name: value if isinstance(value, str) else orjson.dumps(value).decode()
        for name, value in found.items()
        if value is not None
    }


def reducer_of(asked: argparse.Namespace) -> dict[str, Any] | None:
    """Give the reducer's object; its arguments mean nothing without one."""
    found: dict[str, Any] = {name: getattr(asked, name) for name in _OF_REDUCERS}
    found["prompt"] = text_of(asked.merge_prompt)
    given = {name: value for name, value in found.items() if value is not None}
    if asked.reducer is None:
        if given:
            name = next(iter(given)).replace("prompt", "merge-prompt")
            raise CliError(f"--{name} needs a --reducer", Exit.USAGE)
        return None
    return {"kind": asked.reducer, **given}


def text_of(given: str | None) -> str | None:
    """Read `@FILE`; everything else is the text itself."""
    if given is None or not given.startswith("@"):
        return given
    try:
        return Path(given[1:]).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CliError(f"{given[1:]!r} cannot be read: {error}", Exit.USAGE) from error


def options_of(given: list[str]) -> dict[str, Any]:
    """Read `temperature=0.2`; what is no JSON is a text."""
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
