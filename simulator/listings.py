"""What a node tells of its models: tags, ps, show, /v1/models; pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from simulator.calls import TEMPLATE
from simulator.clock import rfc3339
from simulator.model import Model
from simulator.runner import Runner

VERSION = "0.17.4-simulated"
MODIFIED = datetime(2026, 1, 1, tzinfo=UTC)


def details(model: Model) -> dict[str, Any]:
    return {
        "parent_model": "",
        "format": "gguf",
        "family": model.family,
        "families": [model.family],
        "parameter_size": model.parameter_size,
        "quantization_level": model.quantization,
    }


def tags(models: Iterable[Model]) -> dict[str, Any]:
    return {
        "models": [
            {
                "name": model.name,
                "model": model.name,
                "modified_at": rfc3339(MODIFIED.timestamp()),
                "size": model.size_bytes,
                "digest": model.digest,
                "details": details(model),
            }
            for model in models
        ]
    }


def resident(runners: Iterable[Runner], unix_ahead: float) -> dict[str, Any]:
    """`/api/ps`; `unix_ahead` turns the engine's clock into unix seconds."""
    return {
        "models": [
            {
                "name": runner.model.name,
                "model": runner.model.name,
                "size": runner.vram_bytes,
                "digest": runner.model.digest,
                "details": details(runner.model),
                "expires_at": rfc3339(runner.expires_at + unix_ahead),
                "size_vram": runner.vram_bytes,
                "context_length": runner.model.context_tokens,
            }
            for runner in sorted(runners, key=lambda each: -each.used_at)
        ]
    }


def show(model: Model) -> dict[str, Any]:
    return {
        "modelfile": f"# Simulated.\nFROM {model.name}\nTEMPLATE {TEMPLATE}\n",
        "parameters": "temperature                    0",
        "template": TEMPLATE,
        "details": details(model),
        "model_info": {
            "general.architecture": model.family,
            "general.parameter_count": int(model.billions * 1e9),
            f"{model.family}.context_length": model.context_tokens,
            f"{model.family}.embedding_length": model.embedding_length,
        },
        "tensors": [
            {
                "name": "token_embd.weight",
                "type": model.quantization,
                "shape": [model.embedding_length, 1],
            }
        ],
        "capabilities": list(model.capabilities),
        "modified_at": rfc3339(MODIFIED.timestamp()),
    }


def openai_model(name: str) -> dict[str, Any]:
    return {
        "id": name,
        "object": "model",
        "created": int(MODIFIED.timestamp()),
        "owned_by": "library",
    }


def openai_models(models: Iterable[Model]) -> dict[str, Any]:
    data = [openai_model(model.name) for model in models]
    return {"object": "list", "data": data}
