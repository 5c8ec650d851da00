"""One HTTP endpoint for a fleet of Ollama nodes, steered by Prometheus."""
