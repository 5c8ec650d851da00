"""Names that a stranger can look up: each class once, no word that only we know."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import TypeGuard

import pytest

from router.config.load import settings
from tests.harness.process import ROOT

# A Protocol and the one class that implements it may share a name.
SHARED = {"Deviation", "Deviations", "LogSettings"}
# What such names were once; the glossary of docs/ has the field's own words.
PRIVATE = {
    *("Attention", "Bell", "Bridge", "Comings", "Desk", "Doorbell", "Doubt", "Drain"),
    *("Easing", "Flights", "Gate", "Growth", "Hand", "InHand", "Keeper", "Keeping"),
    *("Kept", "Leftovers", "Leg", "Memory", "Outlook", "Presented", "Recollection"),
    *("Ring", "Said", "Seam", "Spent", "Stock", "Surroundings", "Talk", "Told"),
    *("Trail", "Visit", "Way", "Wish"),
}


def classes() -> Iterator[tuple[str, Path]]:
    for path in sorted((ROOT / "router").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                yield node.name, path.relative_to(ROOT)


def test_each_class_has_a_name_of_its_own():
    """A name that is found twice has to be read twice."""
    found: dict[str, list[Path]] = defaultdict(list)
    for name, path in classes():
        found[name].append(path)
    twice = {name: paths for name, paths in found.items() if len(paths) > 1}
    assert {} == {name: twice[name] for name in twice.keys() - SHARED}


def test_no_private_word_comes_back():
    """They were replaced by what Prometheus, nginx and Kubernetes call it."""
    assert [] == [(name, path) for name, path in classes() if name in PRIVATE]


# Likewise as names of functions, attributes, arguments and variables: a word of ours
# that is read in one module is soon said in the next.
PRIVATE_IDENTIFIERS = frozenset(
    {
        *("attention", "bell", "desk", "doorbell", "doubts", "easing"),
        *("flight", "flights", "growth", "hang_up", "hasty", "keeper", "leftover"),
        *("leftovers", "leg", "nudge", "presented", "recollection", "remark", "scene"),
        *("scenes", "seam", "seams", "told", "trails", "visit", "visits", "wish"),
        *("wishes", "witness"),
    }
)


def identifiers(text: str) -> set[str]:
    """Return every name that a module gives or uses."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name):
                found.add(name)
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                found.add(name)
            case ast.keyword(arg=str(name)) | ast.alias(asname=str(name)):
                found.add(name)
    return {name.strip("_").lower() for name in found}


def test_no_private_identifier_comes_back():
    """In code, too, a wish is a request and a flight is an attempt."""
    found = {
        path.relative_to(ROOT): sorted(private)
        for path in sorted((ROOT / "router").rglob("*.py"))
        if (private := identifiers(path.read_text()) & PRIVATE_IDENTIFIERS)
    }
    assert {} == found


def test_a_private_identifier_is_found():
    """In whatever place a name may stand."""
    text = (
        "def f(wish): self._told = g(scene=1)\nimport a as hasty\nclass Doorbell: pass"
    )
    assert {"wish", "told", "scene", "hasty", "doorbell"} <= identifiers(text)


# What such words were once in texts that people read, and what the field says.
WORDS = {
    r"doorbell|\bbell\b": "notification, provisional hold",
    r"foreign load": "external load",
    r"taken back|gives? way": "preempted",
    r"\bby the level\b|\bthe level (?:lifts|alone|confirms|proves)": "reconcile pass",
    r"\banew\b": "again",
    r"\btells? of\b|\btold of\b": "reports",
    r"\bin vain\b": "without use",
    r"\bwhoever\b": "anybody who, every client that",
    r"\bmend(?:s|ed|ing)?\b": "repair, fix",
    r"\bis no JSON\b": "is not valid JSON",
    r"[Ss]ee the module": "a sentence that says what it does",
}
PUBLIC = sorted(
    path
    for pattern in (
        *("*.md", "site/*.md", "docs/*.md", "docs/adr/*.md", "alerting/runbooks/*.md"),
        *("router/web/pages/templates/*.html", "router/web/pages/assets/*.js"),
    )
    for path in ROOT.glob(pattern)
    if path.name not in {"CHANGELOG.md", "dashboards-asked.md"}
)


def private(text: str) -> list[str]:
    return [
        f"{found[0]}: say {better}"
        for pattern, better in WORDS.items()
        for found in re.finditer(pattern, re.sub(r"`[^`\n]*`", "", text))
    ]


@pytest.mark.parametrize("path", PUBLIC, ids=lambda path: str(path.relative_to(ROOT)))
def test_public_texts_use_the_fields_words(path):
    """Docs, runbooks and pages: what is in code spans are names, and aside."""
    assert [] == private(path.read_text())


def test_settings_use_the_fields_words():
    """The meaning of each setting stands in the reference."""
    assert [] == private("\n".join(str(each.description) for *_, each in settings()))


def test_docstrings_say_what_it_does():
    """A docstring that refers to its module says nothing."""
    wrong = [
        (path.relative_to(ROOT), line)
        for folder in ("router", "exporters", "launcher", "simulator", "grafana")
        for path in (ROOT / folder).rglob("*.py")
        for line in path.read_text().splitlines()
        if re.search(r'"""[^"]*see the module', line, re.IGNORECASE)
    ]
    assert [] == wrong


def test_a_private_word_is_found():
    """The check can fail."""
    assert ["doorbell: say notification, provisional hold"] == private("a doorbell")


_LEVELS = frozenset({"debug", "info", "warning", "error", "exception", "critical"})
_EVENT = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")


def events() -> Iterator[tuple[str, str]]:
    """Give each log event of ours, and where; gunicorn's own logger takes sentences."""
    for folder in ("router", "exporters", "simulator", "launcher", "alerting"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            if path == ROOT / "router" / "server" / "worker.py":
                continue
            for node in ast.walk(ast.parse(path.read_text())):
                if _logs(node) and isinstance(node.args[0], ast.Constant):
                    yield str(node.args[0].value), f"{path}:{node.lineno}"


def _logs(node: ast.AST) -> TypeGuard[ast.Call]:
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
        return False
    named = ast.unparse(node.func.value).rpartition(".")[2].lstrip("_")
    return node.func.attr in _LEVELS and named in {"log", "logger"} and bool(node.args)


def test_log_events_have_one_grammar():
    """A word in snake_case, which a query can name; what happened stands beside it."""
    found = list(events())
    assert len(found) > 50
    assert [] == [each for each in found if not _EVENT.fullmatch(each[0])]
