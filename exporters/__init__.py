"""Telemetry of one machine, or of one Ollama from afar, for Prometheus.

Imports nothing of the router; keeps no history; never changes what it watches.
"""

VERSION = "0.1.0"  # a test holds it equal to router.__version__
