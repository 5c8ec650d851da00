"""What an Ollama holds and keeps resident, from its own API.

Reads /api/version, /api/ps and /api/tags; never /api/show or /api/generate, which
cost the node work. Ollama's silence is a finding (`inferops_ollama_up 0`); an
answer that cannot be understood is besides a failure of this collector.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from prometheus_client import Metric

from exporters.errors import BadAnswerError, NoAnswerError, PartialError
from exporters.families import Family, metrics
from exporters.fetch import Fetch, get_json

T = TypeVar("T")
Json = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Model:
    """A model that is present."""

    name: str
    size: int
    digest: str
    family: str
    parameter_size: str
    quantization: str


@dataclass(frozen=True, slots=True)
class Resident:
    """A model that is loaded; None where this version of Ollama does not say."""

    name: str
    size: int
    vram: int | None
    context_tokens: int | None
    expires: float | None


@dataclass(frozen=True, slots=True)
class Holdings:
    version: str
    models: tuple[Model, ...]
    resident: tuple[Resident, ...]


class OllamaCollector:
    """Asks one Ollama, given by its base URL without a trailing slash."""

    def __init__(self, base_url: str, fetch: Fetch = get_json) -> None:
        self._base_url = base_url
        self._fetch = fetch

    def collect(self, deadline: float) -> Iterator[Metric]:
        up = Family(
            "inferops_ollama_up",
            "Whether Ollama answered GET /api/version, /api/ps and /api/tags.",
        )
        try:
            holdings = self._ask(deadline)
        except NoAnswerError:
            up.add(0)
            yield up.metric()
        except BadAnswerError as error:
            up.add(0)
            yield up.metric()
            raise PartialError(str(error)) from error
        else:
            up.add(1)
            yield up.metric()
            yield from metrics(_families(holdings))

    def _ask(self, deadline: float) -> Holdings:
        # The cheapest first: a dead Ollama is known after one call.
        version = self._get("/api/version", deadline, lambda it: _text(it, "version"))
        resident = self._get("/api/ps", deadline, lambda it: _each(it, _resident))
        models = self._get("/api/tags", deadline, lambda it: _each(it, _model))
        return Holdings(version, models, resident)

    def _get(self, path: str, deadline: float, read: Callable[[Json], T]) -> T:
        url = self._base_url + path
        try:
            return read(_object(self._fetch(url, deadline)))
        except ValueError as error:
            raise BadAnswerError(f"GET {url}: {error}") from error


def _each(body: Json, read: Callable[[Json], T]) -> tuple[T, ...]:
    """Read the list `models`, which Go writes as null when it is nil."""
    models = body.get("models", "nothing")
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
    )


def _resident(body: Json) -> Resident:
    return Resident(
        name=_text(body, "name"),
        size=_whole(body, "size"),
        vram=_whole(body, "size_vram") if "size_vram" in body else None,
        context_tokens=_whole(body, "context_length")
        if "context_length" in body
        else None,
        expires=_timestamp(body) if "expires_at" in body else None,
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


def _timestamp(body: Json) -> float | None:
    """Read `expires_at`; Go's zero time means that none is set."""
    moment = datetime.fromisoformat(_text(body, "expires_at"))
    if moment.tzinfo is None:
        raise ValueError(f"expires_at: must have a zone, got {moment}")
    return moment.timestamp() if moment.year > 1 else None


def _families(holdings: Holdings) -> Iterator[Family]:
    info = Family("inferops_ollama_info", "Ollama's version, from GET /api/version.")
    info.add(1, version=holdings.version)
    yield info
    # Names are unique in Ollama's library; were they not, a second series of the
    # same name would spoil the whole scrape.
    yield from _present({model.name: model for model in holdings.models})
    yield from _loaded({model.name: model for model in holdings.resident})


def _present(models: Mapping[str, Model]) -> Iterator[Family]:
    count = Family("inferops_ollama_models", "Models present, from GET /api/tags.")
    info = Family("inferops_ollama_model_info", "A model present, from GET /api/tags.")
    size = Family(
        "inferops_ollama_model_size_bytes",
        "Size on disk of a model present, from GET /api/tags.",
    )
    count.add(len(models))
    for name, model in models.items():
        size.add(model.size, model=name)
        info.add(
            1,
            model=name,
            digest=model.digest,
            family=model.family,
            parameter_size=model.parameter_size,
            quantization=model.quantization,
        )
    yield from (count, info, size)


def _loaded(models: Mapping[str, Resident]) -> Iterator[Family]:
    count = Family(
        "inferops_ollama_resident_models", "Models loaded, from GET /api/ps."
    )
    size = Family(
        "inferops_ollama_resident_size_bytes",
        "Memory of a loaded model, cache included, size of GET /api/ps.",
    )
    vram = Family(
        "inferops_ollama_resident_vram_bytes",
        "Part of a loaded model in GPU memory, size_vram of GET /api/ps.",
    )
    ratio = Family(
        "inferops_ollama_resident_vram_ratio",
        "Share of a loaded model in GPU memory, size_vram / size of GET /api/ps.",
    )
    context = Family(
        "inferops_ollama_resident_context_tokens",
        "Context length of a loaded model, context_length of GET /api/ps.",
    )
    expires = Family(
        "inferops_ollama_resident_expires_timestamp_seconds",
        "When a loaded model will be unloaded, expires_at of GET /api/ps.",
    )
    count.add(len(models))
    for name, model in models.items():
        size.add(model.size, model=name)
        if model.vram is not None:
            vram.add(model.vram, model=name)
            if model.size:
                ratio.add(model.vram / model.size, model=name)
        if model.context_tokens is not None:
            context.add(model.context_tokens, model=name)
        if model.expires is not None:
            expires.add(model.expires, model=name)
    yield from (count, size, vram, ratio, context, expires)
