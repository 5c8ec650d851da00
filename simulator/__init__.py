"""A fleet of simulated nodes: Ollama's API and DCGM's metrics, nothing real."""
