"""The simulated models, and which of them a node has on its disk.

Sizes and shapes are those of the models of that name; the digests are made up
from the names, so that they are the same on every node.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from simulator.model import Model, NodeSpec


def _model(
    name: str,
    size_bytes: float,
    billions: float,
    family: str,
    embedding_length: int,
    *,
    quantization: str = "Q4_K_M",
    capabilities: tuple[str, ...] = ("completion",),
) -> Model:
    small = billions < 1
    size = f"{billions * 1000:.0f}M" if small else f"{billions:.1f}B"
    return Model(
        name=name,
        digest=hashlib.sha256(f"simulated {name}".encode()).hexdigest(),
        size_bytes=int(size_bytes),
        billions=billions,
        parameter_size=size,
        family=family,
        quantization=quantization,
        embedding_length=embedding_length,
        capabilities=capabilities,
    )


CATALOGUE = (
    _model("llama3.2:3b", 2.02e9, 3.2, "llama", 3072),
    _model("qwen2.5:7b", 4.68e9, 7.6, "qwen2", 3584),
    _model("llama3.3:70b", 42.5e9, 70.6, "llama", 8192),
    _model(
        "nomic-embed-text:latest",
        274e6,
        0.137,
        "nomic-bert",
        768,
        quantization="F16",
        capabilities=("embedding",),
    ),
)


def models_of(node: NodeSpec) -> Mapping[str, Model]:
    """The models that fit the node's memory, by name: unequal nodes differ."""
    return {
        model.name: model
        for model in CATALOGUE
        if model.vram_bytes(node.slots) <= node.vram_bytes
    }
