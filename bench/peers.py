"""Other proxies to measure beside: olla, and LiteLLM in an environment of its own."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.proxies import MissingError, Proxy, ready
from bench.simulated_fleet import MODEL
from tests.harness.process import ROOT, Process

LITELLM = ROOT / ".run" / "litellm" / "bin" / "litellm"
_INSTALL_LITELLM = (
    "python3 -m venv .run/litellm && "
    ".run/litellm/bin/pip install 'litellm[proxy]==1.106.2'"
)
_SECONDS_TO_START = 120  # LiteLLM imports for long on a shared core


def start_olla(folder: Path, port: int, nodes: Sequence[int]) -> Proxy:
    """Start olla on one core, with its limits on request rates opened."""
    program = shutil.which("olla")
    if program is None:
        raise MissingError("not on PATH: see github.com/thushan/olla/releases")
    config = folder / "olla.yaml"
    config.write_text(json.dumps(_olla_config(port, nodes)))  # JSON is YAML
    process = Process(
        [program, "--config", config],
        log=folder / "olla.log",
        env={"GOMAXPROCS": "1", "OLLA_CONFIG_FILE": str(config)},
        cwd=folder,
    )
    proxy = Proxy("olla", port, process, path="/olla/ollama/api/chat")
    return ready(proxy, "/olla/ollama/api/version", seconds=_SECONDS_TO_START)


def _olla_config(port: int, nodes: Sequence[int]) -> Mapping[str, object]:
    unlimited = 1_000_000_000
    rates = ["global_requests_per_minute", "per_ip_requests_per_minute"]
    rates += ["health_requests_per_minute", "burst_size"]
    return {
        "server": {
            "host": "127.0.0.1",
            "port": port,
            "write_timeout": "0s",
            "rate_limits": dict.fromkeys(rates, unlimited),
        },
        "proxy": {
            "engine": "olla",
            "load_balancer": "least-connections",
            "connection_timeout": "30s",
            "response_timeout": "600s",
            "read_timeout": "120s",
        },
        "discovery": {
            "type": "static",
            "static": {"endpoints": [_olla_endpoint(node) for node in nodes]},
        },
        "logging": {"level": "info", "format": "json", "output": "stdout"},
    }


def _olla_endpoint(node: int) -> Mapping[str, object]:
    return {
        "url": f"http://127.0.0.1:{node}",
        "name": f"simulated-{node}",
        "type": "ollama",
        "priority": 100,
        "model_url": "/api/tags",
        "health_check_url": "/",
        "check_interval": "5s",
        "check_timeout": "2s",
    }


def start_litellm(
    folder: Path,
    port: int,
    nodes: Sequence[int],
    *,
    model: str = MODEL,
    strategy: str = "simple-shuffle",
) -> Proxy:
    """Start LiteLLM's proxy; it speaks OpenAI's dialect, at most 20 streams.

    With that many one core is full: more would measure its queue.

    strategy: how it chooses a node, as its `routing_strategy` names it
    """
    if not LITELLM.exists():
        raise MissingError(f"not installed: {_INSTALL_LITELLM}")
    config = folder / "litellm.yaml"
    models = [_litellm_model(node, model) for node in nodes]
    routing = {"routing_strategy": strategy}
    config.write_text(json.dumps({"model_list": models, "router_settings": routing}))
    argv: list[str | Path] = [
        LITELLM,
        "--config",
        config,
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
    ]
    env = {
        "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    }
    process = Process(argv, log=folder / "litellm.log", env=env, cwd=folder)
    proxy = Proxy(
        "litellm", port, process, path="/v1/chat/completions", most_streams=20
    )
    return ready(proxy, "/health/liveliness", seconds=_SECONDS_TO_START)


def _litellm_model(node: int, model: str) -> Mapping[str, object]:
    params = {"model": f"ollama_chat/{model}", "api_base": f"http://127.0.0.1:{node}"}
    return {"model_name": model, "litellm_params": params}
