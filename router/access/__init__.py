"""API keys, limits and ownership: pure policy, and where it is stored."""
