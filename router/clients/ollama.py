"""Reads what Ollama answers to `/api/version`, `/api/tags` and `/api/ps`; no I/O.

Raises PollError where an answer is not what Ollama gives. Entries are kept as
they came: clients are shown them again.
"""

from __future__ import annotations

from typing import Any

from router.clients.http_json import PollError
from router.model import canonical
from router.snapshot import PresentModel, ResidentModel


def version(answer: Any) -> str:
    return _text(_mapping(answer), "version")


def present(answer: Any) -> dict[str, PresentModel]:
    models = (
        PresentModel(
            name=canonical(_text(entry, "name")),
            digest=_text(entry, "digest"),
            size_bytes=_size(entry, "size"),
            listing=entry,
        )
        for entry in _entries(answer)
    )
    return {model.name: model for model in models}


def resident(answer: Any) -> dict[str, ResidentModel]:
    models = (
        ResidentModel(
            name=canonical(_text(entry, "name")),
            digest=_text(entry, "digest"),
            size_bytes=_size(entry, "size"),
            vram_bytes=_size(entry, "size_vram"),
            listing=entry,
        )
        for entry in _entries(answer)
    )
    return {model.name: model for model in models}


def _entries(answer: Any) -> list[dict[str, Any]]:
    models = _mapping(answer).get("models")
    if models is None:  # an Ollama without models has said `null`
        return []
    if not isinstance(models, list):
        raise PollError(f"models: must be a list, got {str(models)[:80]!r}")
    return [_mapping(entry) for entry in models]


def _mapping(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise PollError(f"must be an object, got {str(value)[:80]!r}")
    return value


def _text(entry: dict[str, Any], name: str) -> str:
    value = entry.get(name, "")
    if not isinstance(value, str) or (name != "digest" and not value):
        raise PollError(f"{name}: must be text, got {str(value)[:80]!r}")
    return value


def _size(entry: dict[str, Any], name: str) -> int:
    value = entry.get(name, 0)
    if not isinstance(value, int) or value < 0:
        raise PollError(f"{name}: must be bytes, got {str(value)[:80]!r}")
    return value
