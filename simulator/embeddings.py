"""Embeddings of a simulated model: unit vectors made from the text; pure."""

from __future__ import annotations

import base64
import math
import random
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from simulator import body
from simulator.body import ApiError
from simulator.dialect import dumps, timings
from simulator.model import Model, canonical
from simulator.runner import Job


class Route(StrEnum):
    """The calls that embed."""

    EMBED = "embed"
    EMBEDDINGS = "embeddings"  # the old one
    OPENAI = "v1/embeddings"


@dataclass(frozen=True, slots=True)
class Call:
    """One request for embeddings."""

    route: Route
    named: str
    model: Model
    texts: tuple[str, ...]
    keep_alive: float | None = None
    base64: bool = False


_NAMES = {
    Route.EMBED: "EmbedRequest",
    Route.EMBEDDINGS: "EmbeddingRequest",
    Route.OPENAI: "EmbedRequest",
}


def read(route: Route, raw: bytes, models: Mapping[str, Model]) -> Call:
    """Read a body; raises ApiError with Ollama's status and text."""
    openai = route is Route.OPENAI
    value = body.document(raw, _NAMES[route], openai=openai)
    body.check_types(value, _NAMES[route], {"model": "string", "prompt": "string"})
    texts = _texts(route, value)
    keep = body.keep_alive(value.get("keep_alive"))
    named = value.get("model") or ""
    if not named:
        raise ApiError(
            500, "unqualified name: registry.ollama.ai/library/!MISSING!:latest"
        )
    model = models.get(canonical(named))
    if model is None:
        raise ApiError(404, f'model "{named}" not found, try pulling it first')
    encoded = value.get("encoding_format") == "base64"
    return Call(route, named, model, texts, keep, encoded)


def _texts(route: Route, value: Mapping[str, Any]) -> tuple[str, ...]:
    if route is Route.EMBEDDINGS:
        return (value["prompt"],) if value.get("prompt") else ()
    given = value.get("input")
    if route is Route.OPENAI and (given is None or given == []):
        raise body.invalid("invalid input")
    if isinstance(given, str):
        return (given,) if given or route is Route.OPENAI else ()
    if given is None:
        return ()
    if not isinstance(given, list) or not all(isinstance(each, str) for each in given):
        raise body.invalid("invalid input type")
    return tuple(given)


def vector(model: Model, text: str) -> list[float]:
    """A unit vector that only the model's width and the text decide."""
    rng = random.Random(zlib.crc32(text.encode()))  # noqa: S311  no secret
    raw = [rng.gauss(0.0, 1.0) for _ in range(model.embedding_length)]
    length = math.sqrt(sum(each * each for each in raw))
    return [round(each / length, 8) for each in raw]


def answer(call: Call, job: Job | None) -> bytes:
    """Write the reply in the route's shape; no job: nothing was asked."""
    vectors = [vector(call.model, text) for text in call.texts]
    if call.route is Route.EMBEDDINGS:
        return dumps({"embedding": vectors[0] if vectors else []})
    if call.route is Route.EMBED:
        spent = timings(job) if job else {}
        wanted = ("total_duration", "load_duration", "prompt_eval_count")
        more = {name: spent[name] for name in wanted if name in spent}
        return dumps({"model": call.named, "embeddings": vectors, **more})
    return _openai(call, vectors, job.prompt_tokens if job else 0) + b"\n"


def _openai(call: Call, vectors: Sequence[list[float]], prompt_tokens: int) -> bytes:
    data = [
        {
            "object": "embedding",
            "embedding": _packed(each) if call.base64 else each,
            "index": index,
        }
        for index, each in enumerate(vectors)
    ]
    usage = {"prompt_tokens": prompt_tokens, "total_tokens": prompt_tokens}
    return dumps({"object": "list", "data": data, "model": call.named, "usage": usage})


def _packed(values: Sequence[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(values)}f", *values)).decode()
