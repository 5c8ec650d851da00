"""Values of the simulator: nodes and models; no I/O, no clock."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class NodeSpec:
    """A node to play, as the inventory declares it.

    port:                     of Ollama's API and of /metrics
    slots:                    OLLAMA_NUM_PARALLEL
    tokens_per_second:        of one stream of a 7B model
    prompt_tokens_per_second: of a 7B model
    load_seconds:             for a 7B model
    """

    name: str
    port: int
    slots: int = 1
    vram_bytes: float = 24e9
    tflops: float = 20.0
    gpus: int = 1
    tokens_per_second: float = 50.0
    prompt_tokens_per_second: float = 2000.0
    load_seconds: float = 2.0


@dataclass(frozen=True, slots=True)
class Model:
    """A simulated model; `billions` of parameters set its speed and load time."""

    name: str
    digest: str
    size_bytes: int
    billions: float
    parameter_size: str
    family: str
    quantization: str
    embedding_length: int
    capabilities: tuple[str, ...] = ("completion",)
    context_tokens: int = 4096

    @property
    def speed(self) -> float:
        """How fast beside a 7B model: memory traffic goes with the size."""
        return 7.0 / self.billions

    @property
    def embeds_only(self) -> bool:
        return "completion" not in self.capabilities

    def slots(self, configured: int) -> int:
        """Ollama runs embedding models one request at a time."""
        return 1 if self.embeds_only else configured

    def vram_bytes(self, slots: int) -> int:
        """Weights, and a key/value cache for each slot: slots cost memory."""
        return int(self.size_bytes * (1.1 + 0.12 * self.slots(slots)))


def canonical(name: str) -> str:
    """Return a model's full name: `M` and `library/m` are `m:latest`, as in Ollama."""
    name = name.lower().rpartition("://")[2].removeprefix("registry.ollama.ai/")
    name = name.removeprefix("library/")
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"
