"""One HTTP endpoint for a fleet of Ollama nodes, steered by Prometheus."""

__version__ = "0.1.0"  # the one place; pyproject.toml and the exporter read it
