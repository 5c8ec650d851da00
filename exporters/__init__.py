"""Telemetry of one machine, or of one Ollama from afar, for Prometheus.

Imports nothing of the router; keeps no history; never changes what it watches.
"""

VERSION = "0.1.0"  # the one place: the package, the router and the images have it
