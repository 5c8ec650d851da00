"""Routes that need a node."""
