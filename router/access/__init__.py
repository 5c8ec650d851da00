"""API keys, their limits and whose things are whose: pure policy, and its store."""
