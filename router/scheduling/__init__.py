"""Filter, score, pick, and the one queue in front of the nodes."""
