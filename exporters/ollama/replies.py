"""Ollama's replies as values; what its API does not allow is a ValueError."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

T = TypeVar("T")
Json = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Model:
    """A model that is present; `modified` in unix seconds."""

    name: str
    size: int
    digest: str
    family: str
    parameter_size: str
    quantization: str
    modified: float | None


@dataclass(frozen=True, slots=True)
class Resident:
    """A model that is loaded; None where this version of Ollama does not say.

    expires: unix seconds by the node's clock
    """

    name: str
    size: int
    digest: str | None
    vram: int | None
    context_tokens: int | None
    expires: float | None


def version(reply: object) -> str:
    return _text(_object(reply), "version")


# Names are unique in Ollama's library; were they not, a second series of the same
# name would spoil the whole scrape.


def present(reply: object) -> dict[str, Model]:
    """Read /api/tags, by name."""
    return {model.name: model for model in _each(reply, _model)}


def resident(reply: object) -> dict[str, Resident]:
    """Read /api/ps, by name."""
    return {model.name: model for model in _each(reply, _resident)}


def _each(reply: object, read: Callable[[Json], T]) -> tuple[T, ...]:
    """Read the list `models`, which Go writes as null when it is nil."""
    models = _object(reply).get("models", "nothing")
    if models is None:
        return ()
    if not isinstance(models, list):
        raise ValueError(f"models: must be a list, got {models!r:.80}")  # noqa: TRY004 - one class for one finding
    return tuple(read(_object(model)) for model in models)


def _model(body: Json) -> Model:
    details = _object(body.get("details") or {})
    return Model(
        name=_text(body, "name"),
        size=_whole(body, "size"),
        digest=_text(body, "digest"),
        family=_text(details, "family", default=""),
        parameter_size=_text(details, "parameter_size", default=""),
        quantization=_text(details, "quantization_level", default=""),
        modified=_timestamp(body, "modified_at"),
    )


def _resident(body: Json) -> Resident:
    return Resident(
        name=_text(body, "name"),
        size=_whole(body, "size"),
        digest=_text(body, "digest") if "digest" in body else None,
        vram=_whole(body, "size_vram") if "size_vram" in body else None,
        context_tokens=_whole(body, "context_length")
        if "context_length" in body
        else None,
        expires=_timestamp(body, "expires_at"),
    )


def _object(value: object) -> Json:
    if not isinstance(value, dict):
        raise ValueError(f"must be an object, got {value!r:.80}")  # noqa: TRY004
    return value


def _text(body: Json, key: str, default: str | None = None) -> str:
    value = body.get(key, default)
    if not isinstance(value, str):
        raise ValueError(f"{key}: must be a string, got {value!r:.80}")  # noqa: TRY004
    return value


def _whole(body: Json, key: str) -> int:
    value = body.get(key)
    if type(value) is not int or not 0 <= value < 2**63:
        raise ValueError(f"{key}: must be a whole number, got {value!r:.80}")
    return value


def _timestamp(body: Json, key: str) -> float | None:
    """Read a moment; None where it is absent or Go's zero time, which says unset."""
    if key not in body:
        return None
    moment = datetime.fromisoformat(_text(body, key))
    if moment.tzinfo is None:
        raise ValueError(f"{key}: must have a zone, got {moment}")
    return moment.timestamp() if moment.year > 1 else None
