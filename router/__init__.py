"""One HTTP endpoint for a fleet of Ollama nodes, steered by Prometheus."""

import exporters

__version__ = exporters.VERSION
