"""The families of what an Ollama holds, from values that were read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from exporters.families import Family, Kind
from exporters.ollama.comings import LoadEvents
from exporters.ollama.replies import Model, Resident


def version_families(version: str) -> Iterator[Family]:
    about = "Ollama's version, from GET /api/version."
    yield Family.of("inferops_ollama_info", about, 1, version=version)


def present_families(models: Mapping[str, Model]) -> Iterator[Family]:
    about = "Models present, from GET /api/tags."
    yield Family.of("inferops_ollama_models", about, len(models))
    info = Family(
        "inferops_ollama_model_info",
        "A model present, from GET /api/tags; builds of one name differ in digest.",
    )
    size = Family(
        "inferops_ollama_model_size_bytes",
        "Size on disk of a model present, from GET /api/tags.",
    )
    modified = Family(
        "inferops_ollama_model_modified_timestamp_seconds",
        "When a model present was last pulled or made, modified_at of GET /api/tags.",
    )
    for name, model in models.items():
        size.add(model.size, model=name)
        if model.modified is not None:
            modified.add(model.modified, model=name)
        info.add(
            1,
            model=name,
            digest=model.digest,
            family=model.family,
            parameter_size=model.parameter_size,
            quantization=model.quantization,
        )
    yield from (info, size, modified)


def resident_families(models: Mapping[str, Resident], wall: float) -> Iterator[Family]:
    about = "Models loaded, from GET /api/ps."
    yield Family.of("inferops_ollama_resident_models", about, len(models))
    info = Family(
        "inferops_ollama_resident_info",
        "The build of a loaded model, digest of GET /api/ps.",
    )
    context = Family(
        "inferops_ollama_resident_context_tokens",
        "Context length of a loaded model, context_length of GET /api/ps.",
    )
    for name, model in models.items():
        if model.digest is not None:
            info.add(1, model=name, digest=model.digest)
        if model.context_tokens is not None:
            context.add(model.context_tokens, model=name)
    yield from (info, context)
    yield from _memory(models)
    yield from _expiry(models, wall)


def _memory(models: Mapping[str, Resident]) -> Iterator[Family]:
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
    for name, model in models.items():
        size.add(model.size, model=name)
        if model.vram is not None:
            vram.add(model.vram, model=name)
            if model.size:
                ratio.add(model.vram / model.size, model=name)
    yield from (size, vram, ratio)


def _expiry(models: Mapping[str, Resident], wall: float) -> Iterator[Family]:
    expires = Family(
        "inferops_ollama_resident_expires_timestamp_seconds",
        "When a loaded model will be unloaded, expires_at of GET /api/ps.",
    )
    overdue = Family(
        "inferops_ollama_resident_overdue_seconds",
        "How far past expires_at of GET /api/ps a model is still loaded, by the"
        " exporter's clock. A reply longer than the keep-alive does that as well.",
    )
    for name, model in models.items():
        if model.expires is not None:
            expires.add(model.expires, model=name)
            overdue.add(max(0.0, wall - model.expires), model=name)
    yield from (expires, overdue)


def coming_families(comings: LoadEvents) -> Iterator[Family]:
    interval = Family(
        "inferops_ollama_poll_interval_seconds",
        "Between the last two answers of GET /api/ps; what is loaded and gone again"
        " within it, or gone and loaded again, is counted by nobody.",
    )
    if comings.interval_seconds is not None:
        interval.add(comings.interval_seconds)
    loads = Family(
        "inferops_ollama_loads_total",
        "Models that a GET /api/ps showed and the one before did not.",
        Kind.COUNTER,
    )
    for model, count in comings.loads.items():
        loads.add(count, model=model)
    unloads = Family(
        "inferops_ollama_unloads_total",
        "Models that a GET /api/ps showed and the next did not; early: before the"
        " expires_at last seen (room for another, keep_alive 0, a crash).",
        Kind.COUNTER,
    )
    for (model, reason), count in comings.unloads.items():
        unloads.add(count, model=model, reason=reason)
    yield from (interval, loads, unloads)
