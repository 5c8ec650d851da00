"""Loads `router.yml` and its overrides from the environment into a frozen value.

An override is named `INFEROPS_<SECTION>__<FIELD>`. All faults are reported together,
each such as `router.yml: dispatch.attempts: must be >= 1, got 0`. Relative paths start
at the router's working directory.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo

from router.config import yaml as document
from router.config.section import needs_restart
from router.config.settings import Config
from router.config.yaml import ABSENT, YamlFault
from router.errors import ConfigError

PREFIX = "INFEROPS_"
# Names before 0.2, which work until then: sections, then settings by their section.
RENAMED_SECTIONS = {"batch": "jobs"}
RENAMED = {
    ("control", "doorbell_seconds"): "provisional_hold_seconds",
    ("jobs", "give_way"): "preemption",
}
ENVIRONMENT = "environment"


def parse_config(
    text: str, environ: Mapping[str, str], *, source: str = "router.yml"
) -> Config:
    """Read the text of `router.yml` with its overrides.

    Raises ConfigError with every fault.
    """
    content = document.parse(text, source)
    content = {} if content is None else _renamed(content)
    overrides, lines = _overrides(environ)
    config, faults = document.check(Config, _overlaid(content, overrides))
    lines += [_line(fault, source, overrides) for fault in faults]
    if config is None or lines:
        raise ConfigError("\n".join(lines))
    return config


def settings() -> Iterator[tuple[str, str, FieldInfo]]:
    """Yield every setting in order: section, name, declaration."""
    for section, declared in Config.model_fields.items():
        for name, field in _fields(declared.annotation).items():
            yield section, name, field


def _fields(model: Any) -> Mapping[str, FieldInfo]:
    fields: Mapping[str, FieldInfo] = model.model_fields
    return fields


def variable(section: str, name: str) -> str:
    """Return the name of a setting's environment variable."""
    return f"{PREFIX}{section}__{name}".upper()


def waiting_for_restart(running: Config, wanted: Config) -> tuple[str, ...]:
    """Return the changed settings that need a restart."""
    return tuple(
        f"{section}.{name}"
        for section, name, field in settings()
        if needs_restart(field)
        and getattr(getattr(running, section), name)
        != getattr(getattr(wanted, section), name)
    )


_Place = tuple[str, str]


def _renamed(content: object) -> object:
    """Give settings under an old name their new one, unless both are there."""
    if not isinstance(content, dict):
        return content
    content = dict(content)
    for old, new in RENAMED_SECTIONS.items():
        if old in content and new not in content:
            content[new] = content.pop(old)
    for (section, old), new in RENAMED.items():
        found = content.get(section)
        if isinstance(found, dict) and old in found and new not in found:
            content[section] = {
                new if name == old else name: value for name, value in found.items()
            }
    return content


def _overrides(environ: Mapping[str, str]) -> tuple[dict[_Place, str], list[str]]:
    """Pick our variables: values by place, and a line for each unknown one.

    The value of an unknown variable is not shown: it may be a secret.
    """
    places = {
        variable(section, old): (section, new)
        for (section, old), new in RENAMED.items()
    }
    places |= {
        variable(section, name): (section, name) for section, name, _ in settings()
    }
    for old, new in RENAMED_SECTIONS.items():
        start, now = variable(old, ""), variable(new, "")
        places |= {
            start + name.removeprefix(now): place
            for name, place in places.items()
            if name.startswith(now)
        }
    found: dict[_Place, str] = {}
    lines = []
    for name in sorted(environ):
        if not name.startswith(PREFIX) or "__" not in name:
            continue
        if name in places:
            found[places[name]] = environ[name]
        else:
            fault = YamlFault((name,), document.unknown(name, places), ABSENT)
            lines.append(fault.line(ENVIRONMENT))
    return found, lines


def _overlaid(content: object, overrides: Mapping[_Place, str]) -> object:
    """Put the overrides over the file's content, whose faults stay as they are."""
    if not isinstance(content, dict):
        return content
    merged: dict[Any, Any] = {
        key: {} if value is None else value for key, value in content.items()
    }
    declared = {(section, name): field for section, name, field in settings()}
    for place, text in overrides.items():
        section = merged.get(place[0], {})
        if isinstance(section, dict):
            typed = _typed(text, declared[place].annotation)
            merged[place[0]] = {**section, place[1]: typed}
    return merged


def _typed(text: str, annotation: Any) -> object:
    """Read a variable's text as its setting's type; left as it is where it is not."""
    if annotation in (int, float):
        try:
            return annotation(text)
        except ValueError:
            return text
    return None if text == "" and annotation == Path | None else text


def _line(fault: YamlFault, source: str, overrides: Mapping[_Place, str]) -> str:
    for (section, name), text in overrides.items():
        if fault.where == (section, name):
            shown = YamlFault((variable(section, name),), fault.what, text)
            return shown.line(ENVIRONMENT)
    return fault.line(source)
